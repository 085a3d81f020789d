# SPDX-License-Identifier: MIT
"""What the worker may ask the broker for: the closed list, each request one method.

To add a request, write a method here, with an annotation for each argument and for the result.
Arguments are int, str or bool; the broker checks their types before it calls the method, and the
method checks their values: they come from a process that may be in a stranger's hands. A result is
whatever JSON can hold. While nothing is confined (in tests, in `doctor --selftest`), the same
methods are called directly.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

from tracer.kernel.cgroups import cgroup_of_thread
from tracer.kernel.kprobe_events import missed_returns
from tracer.kernel.program_info import program_info

__all__ = ["Requests"]

_LARGEST_PID = 1 << 22  # the kernel's PID_MAX_LIMIT


class Requests:
    """Answers with the rights of the process that it runs in.

    `programs` are descriptors by name, `owner` the tracer's pid if its return probes are in
    tracefs. `follow_cgroup` makes the programs follow the cgroup of the filter. `read_web_file`
    reads the web configuration and the files that it names, and refuses any other.
    """

    read_web_file: Callable[[str], bytes] | None = None

    def __init__(
        self,
        programs: Mapping[str, int],
        owner: int | None,
        follow_cgroup: Callable[[], None] = lambda: None,
    ) -> None:
        self._programs, self._owner, self._follow = programs, owner, follow_cgroup
        self.is_worker_ready = False

    def ready(self) -> None:
        """The worker shows the numbers, and serves the metrics if it was told to."""
        self.is_worker_ready = True

    def program_statistics(self) -> list[tuple[str, int, int, int]]:
        """Name, run time (ns), runs and missed runs of each program of this tracer."""
        found = []
        for name, descriptor in self._programs.items():
            info = program_info(descriptor)
            found.append((name, info.run_time_ns, info.run_count, info.recursion_misses))
        return found

    def missed_returns(self) -> int:
        """How many calls found no room in this tracer's return probes (kprobe_profile)."""
        return missed_returns(self._owner)

    def follow_cgroup(self) -> None:
        """Trace the cgroup that has the path of the filter now."""
        self._follow()

    def web_file(self, name: str) -> str:
        """The web configuration or a file that it names, in base64; raises OSError.

        Keys of TLS are often readable by root only, and the worker reads them again when they
        change.
        """
        if self.read_web_file is None:
            raise ValueError("there is no web configuration")
        return base64.b64encode(self.read_web_file(name)).decode()

    def thread_name(self, pid: int, tid: int) -> str:
        """The thread's name, a character for each byte; raises OSError if the thread has ended."""
        _check_ids(pid, tid)
        name = Path(f"/proc/{pid}/task/{tid}/comm").read_bytes().removesuffix(b"\n")
        return name.decode("latin-1")

    def cgroup_of_thread(self, pid: int, tid: int) -> int:
        """The id of the thread's cgroup; raises OSError if the thread has ended."""
        _check_ids(pid, tid)
        return cgroup_of_thread(pid, tid).stat().st_ino


def _check_ids(*numbers: int) -> None:
    for number in numbers:
        if not 0 < number <= _LARGEST_PID:
            raise ValueError(f"{number} is no process or thread id")
