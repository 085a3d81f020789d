# SPDX-License-Identifier: MIT
"""One documented call is one system call, checked with strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import lunatik_socket
from lunatik_socket import EXTRA_SYSTEM_CALLS
from tests.pure.lunatik_socket import every_call

# Made by the interpreter at any time, for memory and locks.
NOT_OURS = {"brk", "mmap", "munmap", "mremap", "madvise", "futex"}
LINE = re.compile(r'^\d+ +(\w+)\((?:[^"]*?"([^"]*)")?')


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """The system calls of each step: for each name, one list for each time the step was made."""
    if shutil.which("strace") is None:
        pytest.fail("needs strace: apt-get install strace, or ./setup.sh test")
    log = tmp_path_factory.mktemp("strace") / "log"
    command = ["strace", "-f", "-e", "signal=none", "-o", log, sys.executable, every_call.__file__]
    root = str(Path(lunatik_socket.__file__).parents[1])
    subprocess.run(command, check=True, timeout=100, env={**os.environ, "PYTHONPATH": root})
    steps: dict[str, list[list[str]]] = defaultdict(list)
    current: list[str] | None = None
    for line in log.read_text().splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        call, path = match.groups()
        if path is not None and path.startswith(every_call.MARK):
            name = path.removeprefix(every_call.MARK)
            current = [] if name else None
            if current is not None:
                steps[name].append(current)
        elif current is not None and call not in NOT_OURS:
            current.append(call)
    return steps


@pytest.mark.parametrize("operation", every_call.SYSTEM_CALLS)
def test_a_documented_call_is_exactly_its_system_call(
    seen: dict[str, list[list[str]]], operation: str
) -> None:
    assert seen[operation]
    assert seen[operation] == [every_call.SYSTEM_CALLS[operation]] * len(seen[operation])


@pytest.mark.parametrize("addition", every_call.ADDITIONS)
def test_an_addition_makes_exactly_its_system_calls(
    seen: dict[str, list[list[str]]], addition: str
) -> None:
    assert seen[addition]
    assert seen[addition] == [every_call.ADDITIONS[addition]] * len(seen[addition])


def test_every_step_is_checked(seen: dict[str, list[list[str]]]) -> None:
    assert set(seen) == {*every_call.SYSTEM_CALLS, *every_call.ADDITIONS}


def test_the_extra_system_calls_are_named(seen: dict[str, list[list[str]]]) -> None:
    assert EXTRA_SYSTEM_CALLS == {"accept": ("getsockname",)}
    for operation, extra in EXTRA_SYSTEM_CALLS.items():
        assert seen[operation][0][1:] == list(extra)
