# SPDX-License-Identifier: MIT
"""The process of `calls.c`, which makes a known number of socket calls on order."""

import os
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Calls", "Work", "program"]

_ROUNDS_OF_A_SLICE = 25  # the same as in calls.c; if they differ, its answer shows it
_SOURCE = Path(__file__).with_name("calls.c")
_BUILD = _SOURCE.parents[2] / "build"


@dataclass(frozen=True)
class Work:
    """An order to calls.c."""

    how: str
    transport: str
    bytes: int
    slices: int
    pairs: int = 1

    @property
    def calls(self) -> int:
        """The number of system calls that are timed, on both ends together."""
        return 4 * (1 if self.how == "many" else _ROUNDS_OF_A_SLICE) * self.slices


def program() -> Path:
    """The compiled calls.c; compiled again if the source is newer."""
    compiled = _BUILD / "calls"
    if not compiled.exists() or compiled.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILD.mkdir(exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, *flags, "-o", compiled, _SOURCE], check=True, timeout=60)
    return compiled


class Calls:
    """The process, which runs while the context lasts and makes only the ordered calls."""

    pid: int

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=30)

    def ns_per_call(
        self, work: Work, meanwhile: AbstractContextManager[object] | None = None
    ) -> float:
        """Do this work; `meanwhile` is entered around the calls, while the sockets are open."""
        order = f"{work.how} {work.transport} {work.bytes} {work.slices} {work.pairs}"
        if (answer := self._asked(order)) != "ready":
            raise RuntimeError(f"calls.c is not ready: {answer}")
        with meanwhile or nullcontext():
            calls, nanoseconds = map(int, self._asked("go").split())
        self._say("close")
        if calls != work.calls:
            raise RuntimeError(f"calls.c made {calls} calls instead of {work.calls}")
        return nanoseconds / calls

    def _asked(self, line: str) -> str:
        self._say(line)
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
