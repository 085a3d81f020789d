# SPDX-License-Identifier: MIT
"""Bounds on what costs time: the programs' size, the helpers they call, a snapshot's system calls.

Nothing is timed here, so a busy machine makes no difference; `make bench` measures. Measure before
you raise a bound.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.children import TIMEOUT_SECONDS, Child, wait_until
from tracer.kernel.btf import KernelTypes
from tracer.kernel.program_info import program_info
from tracer.loading.parent import Loaded, load, program_for
from tracer.model.config import Config, Filter
from tracer.session import Session

# Instructions as the kernel runs them. They vary a little with its version, which inlines some
# look-ups and not others, and with the compiler: about a quarter more than on 6.18 with LLVM 14.
# Half of those at system calls are for threads that are not known yet.
INSTRUCTIONS = {
    "enter_system_call": 880,
    "exit_system_call": 1150,
    "on_fork": 70,
    "on_exec": 180,
    "on_thread_end": 330,
}
# The same with the connection layer. Almost all of what it adds at the return is for sockets and
# peers that are not known yet.
INSTRUCTIONS_WITH_CONNECTIONS = {
    "enter_system_call": 1160,
    "exit_system_call": 3440,
    "connection_changed_state": 1820,
    "connection_destroyed": 600,
    "connection_retransmits": 220,
    "connection_sends_reset": 210,
    "connection_receives_reset": 210,
}
# Calls out of a program, which take most of its time. Array look-ups are no calls. The hash
# look-ups and updates are for threads that are not known yet.
READS, CLOCK = "bpf_probe_read_kernel", "bpf_ktime_get_ns"
LOOKUPS, UPDATES = "hash look-up", "hash update"
CALLS = {
    "enter_system_call": {READS: 0, LOOKUPS: 2, UPDATES: 2, CLOCK: 1},
    "exit_system_call": {READS: 0, LOOKUPS: 3, UPDATES: 2, CLOCK: 1},
}
READS_WITHOUT_CASTS = 15  # where the kernel's memory is read by a helper (before 6.2)
READS_WITHOUT_TYPES = 9  # more, where the current task comes without its type (before 5.11)
SNAPSHOT_CALLS = 55  # 41 on 6.18: each program asked, each map read in batches
SNAPSHOT_CALLS_WITHOUT_BATCHES = 400  # a look-up a cell, where per-CPU arrays have no batches
# By kprobe_multi, the tracer keeps its CPU to itself meanwhile.
ALONE = {"sched_getscheduler", "sched_getparam", "sched_setscheduler"}
MARK = "/snapshot"


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    chosen = Filter(pids=(os.getpid(),), follow_forks=True)
    programs = load(program_for(Config(filter=chosen, mechanism="tracepoint")))
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def with_connections() -> Iterator[Loaded]:
    chosen = Filter(pids=(os.getpid(),), follow_forks=True)
    config = Config(filter=chosen, mechanism="tracepoint", connections=True)
    programs = load(program_for(config))
    yield programs
    programs.close()


@pytest.mark.parametrize("program", INSTRUCTIONS_WITH_CONNECTIONS)
def test_the_connection_layer_adds_no_more_instructions_than_it_needs(
    with_connections: Loaded, program: str
) -> None:
    info = program_info(with_connections.programs[program])
    assert 0 < info.translated_length // 8 <= INSTRUCTIONS_WITH_CONNECTIONS[program]


@pytest.mark.parametrize("program", INSTRUCTIONS)
def test_a_program_has_no_more_instructions_than_it_needs(loaded: Loaded, program: str) -> None:
    info = program_info(loaded.programs[program])
    assert 0 < info.translated_length // 8 <= INSTRUCTIONS[program]


@pytest.mark.parametrize("program", CALLS)
def test_a_program_calls_no_more_helpers_than_it_needs(loaded: Loaded, program: str) -> None:
    found = _helpers(loaded.programs[program])
    assert found[CLOCK] == 1, "the dump has no names: it would pass whatever is in the program"
    extra = 0
    with KernelTypes() as types:
        if types.function_id("bpf_rdonly_cast") is None:
            extra += READS_WITHOUT_CASTS
        if types.function_id("bpf_get_current_task_btf") is None:
            extra += READS_WITHOUT_TYPES
    for helper, bound in CALLS[program].items():
        assert found[helper] <= bound + (extra if helper == READS else 0), helper


def _helpers(program: int) -> Counter[str]:
    command = ["bpftool", "prog", "dump", "xlated", "id", str(program_info(program).id)]
    dump = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    ).stdout
    common = {"htab_map_lookup": LOOKUPS, "htab_map_update": UPDATES}
    return Counter(
        next((kind for part, kind in common.items() if part in name), name)
        for name in re.findall(r"call (\w+)", dump)
    )


def test_a_snapshot_makes_a_bounded_number_of_system_calls(tmp_path: Path, loaded: Loaded) -> None:
    cells = loaded.maps["cells"]
    assert len(list(cells.items())) == cells.capacity
    bound = SNAPSHOT_CALLS if cells._batch_works else SNAPSHOT_CALLS_WITHOUT_BATCHES
    orders, order = os.pipe()

    def snapshots() -> None:
        os.close(order)
        with Session(Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")) as session:
            session.snapshot()  # so that one-time work is done before
            os.write(ready, b".")
            os.read(orders, 1)
            for _ in range(3):
                os.access(MARK, os.F_OK)
                session.snapshot()
            os.access(MARK, os.F_OK)

    is_ready, ready = os.pipe()
    child = Child(snapshots)
    os.close(ready)
    os.close(orders)
    assert os.read(is_ready, 1) == b".", "the child made no session"
    log = tmp_path / "log"
    with subprocess.Popen(
        ["strace", "-o", log, "-p", str(child.pid)], stderr=subprocess.DEVNULL
    ) as strace:
        status = Path(f"/proc/{child.pid}/status")
        wait_until(lambda: f"TracerPid:\t{strace.pid}\n" in status.read_text(), "strace")
        os.close(order)
        assert child.wait() == 0
    os.close(is_ready)
    _, *between, _ = re.split(rf'access\("{MARK}".*', log.read_text())
    calls = [re.findall(r"^(\w+)\(", text, re.MULTILINE) for text in between]
    assert len(calls) == 3
    for one in calls:
        assert 0 < Counter(one)["bpf"] <= bound
        # The interpreter may allocate memory. A snapshot should make no other system calls.
        assert set(one) <= {"bpf", "brk", "mmap", "munmap", "mremap", "madvise"} | ALONE
