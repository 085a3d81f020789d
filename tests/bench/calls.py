# SPDX-License-Identifier: MIT
"""The process of `calls.c`: known socket calls to order."""

import os
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Calls", "Work", "program"]

_ROUNDS_OF_A_SLICE = 25  # as calls.c has it; a difference shows in its answer
_SOURCE = Path(__file__).with_name("calls.c")
_BUILD = _SOURCE.parents[2] / "build"


@dataclass(frozen=True)
class Work:
    """An order, as calls.c takes it."""

    how: str
    transport: str
    bytes: int
    slices: int
    pairs: int = 1

    @property
    def calls(self) -> int:
        """System calls that are timed, on both ends."""
        return 4 * (1 if self.how == "many" else _ROUNDS_OF_A_SLICE) * self.slices


def program() -> Path:
    """The compiled calls.c; compiled anew if the source is younger."""
    compiled = _BUILD / "calls"
    if not compiled.exists() or compiled.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILD.mkdir(exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, *flags, "-o", compiled, _SOURCE], check=True, timeout=60)
    return compiled


class Calls:
    """The process while its context lasts; it makes no call but those it is told to."""

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
        """Do this work; `meanwhile` lasts while its calls are made, its sockets being open."""
        order = f"{work.how} {work.transport} {work.bytes} {work.slices} {work.pairs}"
        if (answer := self._asked(order)) != "ready":
            raise RuntimeError(f"calls.c is not ready: {answer}")
        with meanwhile or nullcontext():
            calls, nanoseconds = map(int, self._asked("go").split())
        self._say("close")
        if calls != work.calls:
            raise RuntimeError(f"{calls} calls were made, and not {work.calls}")
        return nanoseconds / calls

    def _asked(self, line: str) -> str:
        self._say(line)
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
