# SPDX-License-Identifier: MIT
"""The HTTP server of the exporter.

routes.py       the routes: /metrics, /healthz, the live page
server.py       listening, reading requests, writing responses
connections.py  the open connections and their deadlines
negotiate.py    the format and encoding that a client's headers ask for
"""

__all__: list[str] = []
