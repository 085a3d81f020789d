# SPDX-License-Identifier: MIT
"""The routes of the exporter: `/metrics`, `/healthz` and the live page at `/`.

Listening, reading requests and writing responses are in `tracer.exporter.http.web`.
"""

import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Self

from tracer.exporter.http.negotiate import choose_format, wants_gzip
from tracer.exporter.http.web import Request, Response, WebServer, listen, plain
from tracer.exporter.live import Live
from tracer.exporter.pages import page_routes
from tracer.exporter.scrape import Scraper
from tracer.model.snapshot import Snapshot

__all__ = ["MetricsServer"]


class MetricsServer:
    """Serves the metrics of `snapshot` on `address` from `start` to `stop`.

    `snapshot` is called for each scrape, by one thread at a time. Its errors are counted and
    logged. With port 0 the kernel picks a free port, and `address` has it. `start` raises
    TracerError, with a message for the user, if it cannot listen on the address. A `listener`, a
    listening socket, is used instead of the address; `stop` closes it.
    """

    def __init__(
        self,
        address: tuple[str, int],
        snapshot: Callable[[], Snapshot],
        listener: socket.socket | None = None,
    ) -> None:
        self._wanted = address
        self._listener = listener
        self._scraper = Scraper(snapshot)
        self._live: Live | None = None
        self._web: WebServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, and serve in threads."""
        self._live = Live(self._scraper.snapshot, lambda: self._scraper.errors)
        routes = {"/metrics": self._metrics, "/healthz": self._health}
        listener = self._listener or listen(self._wanted)
        self._web = WebServer(listener, page_routes(self._live) | routes)

    def stop(self) -> None:
        """Close the port and every connection. Safe to call twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._web is not None:
            self._web.stop()
            self._web = None

    @property
    def address(self) -> tuple[str, int]:
        """The address it listens on; before `start`, the address asked for."""
        return self._wanted if self._web is None else self._web.address

    def _metrics(self, request: Request) -> Response:
        form = choose_format(request.headers.get("Accept", ""))
        compressed = wants_gzip(request.headers.get("Accept-Encoding", ""))
        encoding = (("Content-Encoding", "gzip"),) if compressed else ()
        return Response(
            form.value,
            self._scraper.page(form, compressed),
            headers=(*encoding, ("Vary", "Accept, Accept-Encoding")),
        )

    def _health(self, _request: Request) -> Response:
        if self._scraper.healthy:
            return plain(HTTPStatus.OK, "ok")
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "the last read of the kernel's maps failed")
