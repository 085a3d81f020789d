# SPDX-License-Identifier: MIT
"""Runs Lua scripts in the tests."""

from __future__ import annotations

from typing import Any

from lunatik_socket.lua import State

__all__ = ["CONNECTED", "printed"]

# A listener, the two ends of a connection, and two datagram sockets, one connected to the other.
CONNECTED = """
local function listening()
  local listener = socket.new("i", "t")
  listener:bind("127.0.0.1", 0)
  listener:listen(8)
  return listener
end
listener = listening()
client = socket.new("i", "t")
client:connect(listener:getsockname())
accepted = listener:accept()
one, two = socket.new("i", "u"), socket.new("i", "u")
one:bind("127.0.0.1", 0)
two:bind("127.0.0.1", 0)
one:connect(two:getsockname())
"""


def printed(code: str, *arguments: str, **settings: Any) -> list[str]:
    """Return the lines that a script prints."""
    lines: list[str] = []
    State(log=lines.append, **settings).run(code.encode("latin-1"), "script", arguments)
    return lines
