# SPDX-License-Identifier: MIT
"""Return probes made by name in tracefs, and their end.

A kretprobe has room for a bounded number of calls in progress (maxactive), by default twice the
CPUs or ten: more threads blocked in accept than that, and all further ones are missed. Only a probe
made by name in `kprobe_events` can have more room; and such a probe outlives the process that made
it. So each carries the number of the tracer it belongs to, a guardian removes it when that process
is gone, however it went, and a new tracer removes what a dead one may have left all the same (the
guardian can be killed too).

The names: lunatik_<tracer's pid>_<function>_bcc_<loader's pid>; the last part is added by bcc.
"""

import errno
import os
import re
import subprocess
from pathlib import Path

from tracer.kernel.capabilities import tracefs_directory

__all__ = ["event_name", "missed_returns", "remove_leftovers", "start_guardian"]

_NAME = re.compile(r"^r\d*:(?P<group>[^/\s]+)/(?P<name>lunatik_(?P<pid>\d+)_\S+)")

# Reads until the last writer of its standard input is gone, then removes the tracer's events.
# One that is still held by a perf event is busy for a moment, until the kernel is through with it.
_GUARDIAN = r"""
trap "" INT TERM HUP
read -r _
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
	events=$(sed -n "s|^r[0-9]*:\([^/]*/lunatik_$1_[^ ]*\).*|\1|p" kprobe_events)
	[ -n "$events" ] || exit 0
	for event in $events; do echo "-:$event" >>kprobe_events; done 2>/dev/null
	sleep 0.2
done
"""


def event_name(tracer_pid: int, function: str) -> str:
    """What the return probe of a function is to be called."""
    return f"lunatik_{tracer_pid}_{function}"


def start_guardian() -> "subprocess.Popen[bytes]":
    """Watch over this process's events; closing its standard input makes the guardian remove them.

    It is a shell of one megabyte in a session of its own, so that no signal to our group ends it.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARDIAN, "lunatik-socket-guardian", str(os.getpid())],
        cwd=tracefs_directory(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def remove_leftovers() -> None:
    """Remove the events of tracers that are no more; never those of one that runs."""
    events = tracefs_directory() / "kprobe_events"
    if not events.exists():
        return
    for line in events.read_text().splitlines():
        match = _NAME.match(line)
        if match and not Path(f"/proc/{match['pid']}").exists():
            _remove(events, f"{match['group']}/{match['name']}")


def _remove(events: Path, event: str) -> None:
    # Never opened with O_TRUNC: that removes everyone's events. Nor with Python's mode "a", which
    # seeks, and this file cannot.
    descriptor = os.open(events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"-:{event}\n".encode())
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
    finally:
        os.close(descriptor)


def missed_returns(tracer_pid: int | None) -> int:
    """How many calls found no room in this tracer's return probes; None if it has none."""
    if tracer_pid is None:
        return 0
    total = 0
    for line in (tracefs_directory() / "kprobe_profile").read_text().splitlines():
        name, _, missed = line.split()
        if name.startswith(event_name(tracer_pid, "")):
            total += int(missed)
    return total
