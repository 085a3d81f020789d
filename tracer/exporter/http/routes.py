# SPDX-License-Identifier: MIT
"""The routes of the exporter: `/metrics`, `/healthz` and the live page at `/`.

Everything that is the same for all routes is in `tracer.exporter.http.server`.
"""

import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Self

from tracer.exporter.http.config_file import WebConfigFile
from tracer.exporter.http.handler import Request, Response, plain
from tracer.exporter.http.hosts import is_loopback
from tracer.exporter.http.listener import listen
from tracer.exporter.http.negotiate import choose_format, wants_gzip
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.http.server import WebServer
from tracer.exporter.http.settings import WebSettings
from tracer.exporter.live import Live
from tracer.exporter.pages import page_routes
from tracer.exporter.scrape import Scraper
from tracer.model.snapshot import Snapshot

__all__ = ["MetricsServer"]


class MetricsServer:
    """Serves the metrics of `snapshot` on `address` from `start` to `stop`.

    `snapshot` is called for each scrape, by one thread at a time. Its errors are counted and
    logged. With port 0 the kernel picks a free port, and `address` has it. `start` raises
    TracerError, with a message for the user, if it cannot listen on the address. `config` has TLS,
    passwords and limits; it is watched for changes. `host_names` are names by which clients may ask
    on loopback. A `listener`, a listening socket, is used instead of the address.
    """

    def __init__(
        self,
        address: tuple[str, int],
        snapshot: Callable[[], Snapshot],
        config: WebConfigFile | None = None,
        host_names: Iterable[str] = (),
        listener: socket.socket | None = None,
    ) -> None:
        self._wanted = address
        self._config = config
        self._host_names = tuple(host_names)
        self._listener = listener
        self._refusals = Refusals()
        self._scraper = Scraper(snapshot, lambda: self._refusals.counts)
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
        routes |= page_routes(self._live, self._refusals)
        listening = self._listener or listen(self._wanted)
        self._web = WebServer(listening, routes, self._refusals, self._host_names, self._config)
        if self._config is not None:
            self._config.watch()

    def stop(self) -> None:
        """Close the port and every connection. Safe to call twice."""
        if self._config is not None:
            self._config.stop()
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

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect, without TLS and a password or a certificate."""
        settings = WebSettings() if self._config is None else self._config.current
        return not is_loopback(self.address[0]) and not settings.knows_clients

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
