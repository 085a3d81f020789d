# SPDX-License-Identifier: MIT
"""The HTTP server of the exporter.

routes.py         the routes: /metrics, /healthz, the live page
server.py         the server: what happens to a connection from accept to close
listener.py       the listening socket, and the thread that accepts connections
connections.py    the open connections, their deadlines, which one makes way for a new one
handler.py        reading requests, checking them, writing responses
negotiate.py      the format and encoding that a client's headers ask for
hosts.py          the check of the Host header
login.py          passwords
rate.py           the rate limit
refusals.py       what was refused: counters and one log line a minute
settings.py       the web configuration as data
config_file.py    the web configuration file, read again when it changes
config_schema.py  its format
tls.py            the TLS context
"""

__all__: list[str] = []
