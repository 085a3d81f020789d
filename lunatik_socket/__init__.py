# SPDX-License-Identifier: MIT
"""The documented socket API of Lunatik for Python: 16 operations, each one system call.

`accept` makes one more (`EXTRA_SYSTEM_CALLS`), and `poll` one more for each socket.

from lunatik_socket import new, poll

server = new("inet", "tcp")
server.bind("127.0.0.1", 8080)
server.listen(16)
client = server.accept()
data, size = client.recv(1024)
"""

from .data import Data
from .fields import Layout, layout
from .options import level, optname
from .poll import Poll, poll
from .socket import EXTRA_SYSTEM_CALLS, Socket, new

__all__ = [
    "EXTRA_SYSTEM_CALLS",
    "Data",
    "Layout",
    "Poll",
    "Socket",
    "layout",
    "level",
    "new",
    "optname",
    "poll",
]
