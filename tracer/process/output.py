# SPDX-License-Identifier: MIT
"""The output of a started command, printed above the live table instead of into it."""

import os
import threading
from collections.abc import Callable
from typing import Self

from tracer.process.hang_up import outliving_terminal

__all__ = ["Relay"]

_CHUNK_BYTES = 1 << 16
# A longer line is cut: a command may write without end and without a newline.
_MAX_LINE_BYTES = 1 << 14
_CUT = f" [cut: the line is longer than {_MAX_LINE_BYTES} bytes]".encode()


class Relay:
    """A pipe that a command writes into; after `start` a thread passes its lines on."""

    def __enter__(self) -> Self:
        self._read_end, self.write_end = os.pipe()
        self._thread: threading.Thread | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self.close_write_end()
        if self._thread is None:
            os.close(self._read_end)

    def close_write_end(self) -> None:
        """Close this process's copy, so that the pipe ends when the command does."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def start(self, say: Callable[[str], None]) -> None:
        """Pass the lines to `say` from now on."""
        # A daemon thread: a grandchild may keep the pipe open after this process ends.
        self._thread = threading.Thread(target=self._pass_on, args=(say,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait up to a second for the last lines; a grandchild may hold the pipe open."""
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _pass_on(self, say: Callable[[str], None]) -> None:
        """Pass on all complete lines at once: each `say` may redraw a table."""
        pending = _Lines()
        while chunk := os.read(self._read_end, _CHUNK_BYTES):
            if lines := pending.add(chunk):
                _show(say, b"\n".join(lines))
        if pending.rest:
            _show(say, pending.rest)
        os.close(self._read_end)


class _Lines:
    """Splits chunks into lines. `rest` is the start of a line that is not complete yet."""

    def __init__(self) -> None:
        self.rest = b""
        self._is_skipping = False  # to the end of a line that was cut

    def add(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, each cut if it is too long."""
        if self._is_skipping:
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return []
            self._is_skipping = False
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > _MAX_LINE_BYTES:
            lines.append(self.rest)
            self.rest, self._is_skipping = b"", True
        return [_cut(line) for line in lines]


def _cut(line: bytes) -> bytes:
    return line if len(line) <= _MAX_LINE_BYTES else line[:_MAX_LINE_BYTES] + _CUT


def _show(say: Callable[[str], None], text: bytes) -> None:
    """Go on without the terminal if it hangs up: a full pipe would stop the command."""
    with outliving_terminal():
        say(text.decode(errors="replace"))
