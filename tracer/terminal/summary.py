# SPDX-License-Identifier: MIT
"""What is told at the end: the summary for people, JSON for programs."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import TextIO

from tracer.errors import TracerError
from tracer.model.snapshot import Snapshot, difference, to_json
from tracer.terminal.rows import Header

__all__ = ["json_writers", "print_summary"]


@contextmanager
def json_writers(
    output: str | None, *, to_stdout: bool
) -> Iterator[list[Callable[[Snapshot], None]]]:
    """Yield the functions that write the final numbers; an unwritable file fails here, at once."""
    with ExitStack() as stack:
        writers: list[Callable[[Snapshot], None]] = []
        if output is not None:
            file = stack.enter_context(_writable(output))
            writers.append(lambda last: _write(last, file))
        if to_stdout:
            writers.append(lambda last: print(_json(last), flush=True))
        yield writers


def _json(last: Snapshot) -> str:
    return json.dumps(to_json(last), allow_nan=False)


def _writable(path: str) -> FileIO:
    try:
        return Path(path).open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(last: Snapshot, file: FileIO) -> None:
    rest = memoryview(f"{_json(last)}\n".encode())
    try:
        if Path(file.name).is_file():
            file.truncate(0)  # what was there goes only now that there is something better
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _unwritable(str(file.name), error) from error


def _unwritable(path: str, error: OSError) -> TracerError:
    return TracerError("write", path, errno=error.errno, hint="choose another --output")


def print_summary(header: Header, first: Snapshot, last: Snapshot, stream: TextIO) -> None:
    """Print what was counted from `first` to `last`."""
    from rich.console import Console  # noqa: PLC0415

    from tracer.terminal import rows as table  # noqa: PLC0415
    from tracer.terminal.tables import summary  # noqa: PLC0415

    seconds = (last.monotonic_ns - first.monotonic_ns) / 1e9
    rows = table.rows(last, difference(first, last), seconds)
    Console(file=stream, highlight=False).print(summary(header, last, rows, seconds))
    stream.flush()
