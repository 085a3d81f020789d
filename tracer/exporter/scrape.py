# SPDX-License-Identifier: MIT
"""A scrape: read the kernel's maps once, render the metrics, leave out those that fail."""

import gzip
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Lock

from tracer.exporter import metrics
from tracer.exporter.families import FAMILIES, Family, Samples, family
from tracer.exporter.process import process_families
from tracer.exporter.render import Format, Renderer
from tracer.exporter.shared import Shared
from tracer.model.snapshot import Snapshot

__all__ = ["Scraper"]

_log = logging.getLogger(__name__)
_GZIP_LEVEL = 1  # 9 takes five times as long for a tenth less


class Scraper:
    """Renders the snapshots of one source as pages of metrics; safe to use from many threads.

    A scrape never fails as a whole. A metric that cannot be made is left out, counted in
    `lunatik_socket_tracer_scrape_errors_total`, and logged.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        refusals: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._snapshot = snapshot
        self.refusals = refusals
        self._shared = Shared(self._read)
        self._renderers = {form: Renderer(form) for form in Format}
        self.errors = 0
        self.healthy = True

    def page(self, form: Format, compressed: bool) -> bytes:
        """The metrics as of now, in this format; gzipped if `compressed`."""
        return self._shared.get().page(form, compressed)

    def snapshot(self) -> Snapshot | None:
        """A snapshot as of now, shared with scrapes at the same moment; None if it failed."""
        return self._shared.get().snapshot

    def _read(self) -> "_Reading":
        return _Reading(self, self._renderers)

    def read_snapshot(self) -> Snapshot | None:
        """The source's snapshot; None if the source raised an error, which is then counted."""
        try:
            snapshot = self._snapshot()
        except Exception as error:
            self.healthy = False
            self.count_error("snapshot", error)
            return None
        self.healthy = True
        return snapshot

    def count_error(self, what: str, error: Exception) -> None:
        """Count and log that a metric is missing from a scrape."""
        self.errors += 1
        _log.error("cannot export %s: %s: %s", what, type(error).__name__, error)


class _Reading:
    """One snapshot, rendered once for each format and encoding that clients ask for."""

    def __init__(self, scraper: Scraper, renderers: dict[Format, Renderer]) -> None:
        started = time.perf_counter()
        self._scraper = scraper
        self._renderers = renderers
        self.snapshot = scraper.read_snapshot()
        self._read_seconds = time.perf_counter() - started
        self._pages: dict[tuple[Format, bool], bytes] = {}
        self._lock = Lock()

    def page(self, form: Format, compressed: bool) -> bytes:
        with self._lock:
            if (form, False) not in self._pages:
                self._pages[form, False] = self._render(form).encode()
            if (form, compressed) not in self._pages:
                self._pages[form, True] = gzip.compress(self._pages[form, False], _GZIP_LEVEL)
            return self._pages[form, compressed]

    def _render(self, form: Format) -> str:
        started = time.perf_counter()
        renderer = self._renderers[form]
        parts = [*self._kernel_parts(renderer), *self._process_parts(renderer)]
        refused: Samples = {(reason,): count for reason, count in self._scraper.refusals().items()}
        parts += renderer.parts(Family(metrics.REFUSALS, metrics.REFUSALS.labels, refused))
        seconds = self._read_seconds + time.perf_counter() - started
        own = {metrics.SCRAPE_DURATION: seconds, metrics.SCRAPE_ERRORS: self._scraper.errors}
        for metric, value in own.items():
            parts += renderer.parts(Family(metric, (), {(): value}))
        return "".join((*parts, form.end))

    def _kernel_parts(self, renderer: Renderer) -> Iterator[str]:
        if self.snapshot is None:
            return
        for metric in FAMILIES:
            try:
                yield from renderer.parts(family(metric, self.snapshot))
            except Exception as error:
                self._scraper.count_error(metric.name, error)

    def _process_parts(self, renderer: Renderer) -> Iterator[str]:
        try:
            for one in process_families():
                yield from renderer.parts(one)
        except Exception as error:
            self._scraper.count_error("process_*", error)
