# SPDX-License-Identifier: MIT
"""The routes of the live page: its files, its event stream, and its security headers."""

from http import HTTPStatus
from pathlib import Path

from tracer.exporter.http.handler import Handler, Request, Response, plain
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.live import Live
from tracer.exporter.streams import Streams

__all__ = ["page_routes"]

_DIRECTORY = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# No inline code, nothing from other hosts, no framing.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),
)


def page_routes(live: Live, refusals: Refusals) -> dict[str, Handler]:
    """The page's routes: `/`, its files, and the event stream `/live`."""
    files = {f"/{path.name}": _file(path) for path in _DIRECTORY.iterdir()}
    return {"/": files["/index.html"], **files, "/live": _stream(Streams(live, refusals))}


def _file(path: Path) -> Handler:
    def handler(_request: Request) -> Response:
        return Response(_TYPES[path.suffix], path.read_bytes(), headers=_HEADERS)

    return handler


def _stream(streams: Streams) -> Handler:
    def handler(request: Request) -> Response:
        if not streams.has_room_for(request.client):
            text = "too many pages are open: close one"
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, text, ("Retry-After", "5"))
        events = streams.events(request.client)
        return Response("text/event-stream", headers=_HEADERS, events=events)

    return handler
