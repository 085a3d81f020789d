# SPDX-License-Identifier: MIT
"""A limit that the tracer reaches is one line that says which, and leaves no file."""

import os
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import PROGRAM, ROOT, TIMEOUT_SECONDS, run

QUICK = ("trace", "--operation", "bind", "--quiet")
# bcc fails with some of these by an exception, with others by a crash.
MEMORY_LIMITS = (60, 200, 230, 250, 270)
# A user who has no other process. It may trace, and read this repository.
USER = 54321
RIGHTS = "+bpf,+perfmon,+dac_read_search"


def limit(which: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (most, most))


@pytest.mark.parametrize("most", [8, 12, 16, 20])
def test_too_few_descriptors(most: int, tmp_path: Path) -> None:
    done = run(
        *(*QUICK, "--no-metrics", "--", "true"),
        preexec_fn=limit(resource.RLIMIT_NOFILE, most),
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert re.fullmatch(r"lunatik-socket: cannot .* \(EMFILE\); raise .*ulimit -n.*\n", done.stderr)
    assert (done.returncode, done.stdout) == (3, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("megabytes", MEMORY_LIMITS)
def test_too_little_memory_to_compile(megabytes: int, tmp_path: Path) -> None:
    done = run(
        *(*QUICK, "--no-metrics", "--duration", "1ms"),
        preexec_fn=limit(resource.RLIMIT_AS, megabytes * 1_000_000),
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    if done.returncode:  # how much is needed differs between versions of LLVM
        assert done.stderr == (
            "lunatik-socket: cannot load the BPF programs: out of memory; "
            "raise the memory limit (ulimit -v, MemoryMax=)\n"
        )
        assert (done.returncode, done.stdout) == (3, "")
    else:
        assert megabytes > min(MEMORY_LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_no_further_process() -> None:
    done = subprocess.run(
        [
            *("setpriv", "--reuid", str(USER), "--clear-groups"),
            *("--inh-caps", RIGHTS, "--ambient-caps", RIGHTS, "bash", "-c"),
            *('ulimit -u 1; exec "$@"', "bash", *PROGRAM, *QUICK, "--no-metrics", "--", "true"),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.stderr == (
        "lunatik-socket: cannot start a process: Resource temporarily unavailable (EAGAIN); "
        "raise the limit of processes (ulimit -u, TasksMax=)\n"
    )
    assert (done.returncode, done.stdout) == (3, "")
