# SPDX-License-Identifier: MIT
"""Return probes that are made by name in tracefs, and how they are removed.

A kretprobe has room for a limited number of calls in flight (maxactive), by default twice the
number of CPUs, or ten. If more threads than that are blocked in accept, the kernel misses the
returns of the others. Only a probe made by name in `kprobe_events` can have more room, and such a
probe stays after the process that made it. So its name has the pid of its tracer. A guardian
process removes the probe when that tracer has ended, also when it was killed. The guardian can be
killed too, so a new tracer removes the probes of tracers that no longer run.

The names: lunatik_<tracer's pid>_<function>_bcc_<loader's pid>; bcc adds the last part.
"""

import errno
import os
import re
import subprocess
from pathlib import Path

from tracer.kernel.capabilities import tracefs_directory

__all__ = ["event_name", "missed_returns", "remove_leftovers", "start_guardian"]

_NAME = re.compile(r"^r\d*:(?P<group>[^/\s]+)/(?P<name>lunatik_(?P<pid>\d+)_\S+)")

# Waits until all processes that hold the other end of its standard input have ended. Then removes
# the tracer's events, in several attempts: EBUSY means that a perf event still holds one.
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
    """The name for the return probe of a function."""
    return f"lunatik_{tracer_pid}_{function}"


def start_guardian() -> "subprocess.Popen[bytes]":
    """Start the guardian of this process's events; it removes them when its standard input ends.

    It is a shell that takes one megabyte. It runs in its own session, so a signal to this process
    group does not end it.
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
    """Remove the events of tracers that have ended, not those of a running tracer."""
    events = tracefs_directory() / "kprobe_events"
    if not events.exists():
        return
    for line in events.read_text().splitlines():
        match = _NAME.match(line)
        if match and not Path(f"/proc/{match['pid']}").exists():
            _remove(events, f"{match['group']}/{match['name']}")


def _remove(events: Path, event: str) -> None:
    # O_TRUNC would remove the events of all programs. Python's mode "a" seeks, which this file
    # does not support.
    descriptor = os.open(events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"-:{event}\n".encode())
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
    finally:
        os.close(descriptor)


def missed_returns(tracer_pid: int | None) -> int:
    """How many calls found no room in the return probes of this tracer; None: it has no probes."""
    if tracer_pid is None:
        return 0
    total = 0
    for line in (tracefs_directory() / "kprobe_profile").read_text().splitlines():
        name, _, missed = line.split()
        if name.startswith(event_name(tracer_pid, "")):
            total += int(missed)
    return total
