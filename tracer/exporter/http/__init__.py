# SPDX-License-Identifier: MIT
"""The HTTP server of the exporter.

server.py       the routes: /metrics, /healthz, the live page
web.py          listening, reading requests, writing responses; TLS and passwords would go here
connections.py  the open connections and their deadlines
negotiate.py    the format and encoding that a client's headers ask for
"""

__all__: list[str] = []
