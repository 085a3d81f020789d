# SPDX-License-Identifier: MIT
"""What `trace --comm` says of the running threads."""

from pathlib import Path

from tracer.cli.trace import _running


def test_running_threads_with_the_name_are_listed() -> None:
    Path("/proc/self/comm").write_text("one-of-its-kind")
    try:
        for comm in ("one-of-its-kind", "one-of-its-kind-cut-off", "one-of-*", "*its-kin?"):
            assert _running((comm,)) == "threads that --comm matches now: one-of-its-kind (1)"
    finally:
        Path("/proc/self/comm").write_text("pytest")


def test_no_running_thread_is_a_warning() -> None:
    assert _running(("none-of-*", "none-at-all")) == (
        "warning: no running thread has a name that --comm matches; waiting for one"
    )
