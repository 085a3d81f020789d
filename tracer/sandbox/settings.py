# SPDX-License-Identifier: MIT
"""What the command line says about a script, for the process that runs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .addresses import LOOPBACK, Allowed, parse

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a script runs. `connect` and `listen` are the user's patterns; none: loopback.

    `as_lua_is` is not reachable from the command line: see `lunatik_socket.lua.State`.
    """

    sandbox: bool = False
    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    connect: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    as_lua_is: bool = False

    def to_text(self) -> str:
        """As one argument of a command line."""
        fields = asdict(self)
        del fields["as_lua_is"]
        return json.dumps(fields)

    @classmethod
    def from_text(cls, text: str) -> Settings:
        """What `to_text` made."""
        fields = json.loads(text)
        fields.pop("as_lua_is", None)
        for name in ("connect", "listen"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @property
    def allowed(self) -> Allowed:
        """The addresses that the script may use."""
        connect = tuple(parse(text) for text in self.connect)
        listen = tuple(parse(text) for text in self.listen)
        return Allowed(connect or LOOPBACK, listen or LOOPBACK)
