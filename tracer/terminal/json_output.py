# SPDX-License-Identifier: MIT
"""The final numbers as JSON: `--json` on standard output, `--output` into a file."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

from tracer.errors import TracerError
from tracer.model.snapshot import Snapshot, to_json

__all__ = ["json_writers"]


@contextmanager
def json_writers(
    *, to_stdout: bool, path: str | None
) -> Iterator[list[Callable[[Snapshot], None]]]:
    """Yield functions that write the final numbers.

    Raises TracerError at once, before anything is traced, if the file `path` cannot be opened.
    """
    with ExitStack() as stack:
        writers: list[Callable[[Snapshot], None]] = []
        if path is not None:
            file = stack.enter_context(_open(path))
            writers.append(lambda last: _write(last, file))
        if to_stdout:
            writers.append(lambda last: print(_json(last), flush=True))
        yield writers


def _json(last: Snapshot) -> str:
    return json.dumps(to_json(last), allow_nan=False)


def _open(path: str) -> FileIO:
    try:
        return Path(path).open("ab", buffering=0)
    except OSError as error:
        raise _failure(path, error) from error


def _write(last: Snapshot, file: FileIO) -> None:
    rest = memoryview(f"{_json(last)}\n".encode())
    try:
        if Path(file.name).is_file():
            file.truncate(0)  # not earlier: a trace that fails must not empty an existing file
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _failure(str(file.name), error) from error


def _failure(path: str, error: OSError) -> TracerError:
    return TracerError("write", path, errno=error.errno, hint="choose another --output")
