# SPDX-License-Identifier: MIT
"""Runs a long command with a time limit and passes its output on line by line."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence

__all__ = ["attend"]


def attend(
    command: Sequence[str],
    timeout: float,
    on_line: Callable[[str], None],
    *,
    first_line: float | None = None,
) -> int | None:
    """Run *command* to its end; returns its exit status, or None when *timeout* (s) ran out.

    So too if there was no line of output within *first_line* seconds. Its children are killed with
    it, and it is killed when the calling thread ends, even by SIGKILL.
    """
    late = threading.Event()
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], start_new_session=True, text=True,
        errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        watch = threading.Timer(timeout, end)
        silence = threading.Timer(timeout if first_line is None else first_line, end)
        watch.start()
        silence.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                silence.cancel()
                on_line(line.rstrip("\n"))
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            watch.cancel()
            silence.cancel()
    return None if late.is_set() else status
