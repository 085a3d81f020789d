# SPDX-License-Identifier: MIT
"""The final numbers as JSON: `--json` on standard output, `--output` into a file."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Protocol

from tracer.errors import TracerError
from tracer.model.snapshot import Snapshot, to_json

__all__ = ["JsonWriter", "json_writers"]


class JsonWriter(Protocol):
    """Writes the final numbers to its descriptor."""

    def fileno(self) -> int:
        """The descriptor."""

    def write(self, last: Snapshot) -> None:
        """Write them; raises TracerError."""


@contextmanager
def json_writers(*, to_stdout: bool, path: str | None) -> Iterator[list[JsonWriter]]:
    """Yield what writes the final numbers.

    Raises TracerError at once, before anything is traced, if the file `path` cannot be opened.
    """
    with ExitStack() as stack:
        writers: list[JsonWriter] = []
        if path is not None:
            writers.append(_ToFile(stack.enter_context(_open(path))))
        if to_stdout:
            writers.append(_ToStdout())
        yield writers


class _ToStdout:
    def fileno(self) -> int:
        return sys.stdout.fileno()

    def write(self, last: Snapshot) -> None:
        print(_json(last), flush=True)


class _ToFile:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, last: Snapshot) -> None:
        _write(last, self._file)


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
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)  # not earlier: a trace that fails must not empty an existing file
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _failure(str(file.name), error) from error


def _failure(path: str, error: OSError) -> TracerError:
    return TracerError("write", path, errno=error.errno, hint="choose another --output")
