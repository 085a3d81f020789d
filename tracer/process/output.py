# SPDX-License-Identifier: MIT
"""A started command's output, taken to where it does not run into the live table."""

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["Relay"]

_CHUNK_BYTES = 1 << 16


class Relay:
    """A pipe for a command to write into, and from `start` on a thread that passes its lines on."""

    def __enter__(self) -> Self:
        self._read_end, self.write_end = os.pipe()
        self._thread: threading.Thread | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_write_end()
        if self._thread is None:
            os.close(self._read_end)

    def close_write_end(self) -> None:
        """Leave it to the command, so that its end is seen."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def start(self, say: Callable[[str], None]) -> None:
        """Pass lines on from now."""
        # A daemon: a grandchild may keep the pipe open for longer than we live.
        self._thread = threading.Thread(target=self._pass_on, args=(say,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last lines, but not for a grandchild that holds the pipe open."""
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _pass_on(self, say: Callable[[str], None]) -> None:
        """As many whole lines at once as there are: each `say` may draw a table anew."""
        rest = b""
        while chunk := os.read(self._read_end, _CHUNK_BYTES):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                say(lines.decode(errors="replace"))
        if rest:
            say(rest.decode(errors="replace"))
        os.close(self._read_end)
