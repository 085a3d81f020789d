# SPDX-License-Identifier: MIT
"""The exporter: a Snapshot as Prometheus metrics and as a live page, over HTTP.

metrics.py   every metric: name, type, help, labels
families.py  Snapshot -> the samples of each metric
render.py    samples -> text in Prometheus' formats, bucket bounds included
scrape.py    one scrape: read, render, count errors
live.py      the event stream of the live page
pages.py     the routes of the live page; its files are in page/
process.py   process_* metrics
shared.py    one run of a function for many threads
http/        the HTTP server: connections, limits, content negotiation, routes
"""

__all__: list[str] = []
