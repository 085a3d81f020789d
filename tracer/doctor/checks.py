# SPDX-License-Identifier: MIT
"""The checks of `doctor`. Each tries the real thing instead of looking up a version or a setting.

A check is a function that returns what it found, or raises TracerError.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.doctor import toolchain
from tracer.doctor.confinement import broker_rights, worker_rights
from tracer.errors import TracerError, UnsupportedError
from tracer.kernel import trial_programs
from tracer.kernel.capabilities import (
    in_initial_pid_namespace,
    lift_memory_limit,
    require_rights,
    tracefs_directory,
)
from tracer.kernel.cgroups import cgroup_directory
from tracer.kernel.mechanisms import prove
from tracer.kernel.program_info import program_info
from tracer.kernel.programs import ProgramType

__all__ = ["Check", "can_trace", "examine", "to_json"]


@dataclass(frozen=True, slots=True)
class Check:
    """One result. `required`: without it nothing can be traced. `hint` is None if `ok`."""

    name: str
    ok: bool
    required: bool
    found: str
    hint: str | None


def examine() -> Iterator[Check]:
    """Run all checks, also after one has failed."""
    lift_memory_limit()
    for name, required, body in _CHECKS:
        try:
            found = body()
        except TracerError as error:
            yield Check(name, ok=False, required=required, found=error.reason, hint=error.hint)
        except OSError as error:
            found = TracerError.of(error, name).reason
            yield Check(name, ok=False, required=required, found=found, hint=_HINTS[name])
        else:
            yield Check(name, ok=True, required=required, found=found, hint=None)


def can_trace(checks: list[Check]) -> bool:
    """Whether the operation layer can run here."""
    return all(check.ok for check in checks if check.required)


def to_json(checks: list[Check]) -> dict[str, Any]:
    """The document of `doctor --json` (docs/json.md)."""
    return {
        "can_trace": can_trace(checks),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "checks": [
            {
                "check": check.name,
                "ok": check.ok,
                "required": check.required,
                "found": check.found,
                "hint": check.hint,
            }
            for check in checks
        ],
    }


def _rights() -> str:
    require_rights()
    return "root" if os.geteuid() == 0 else f"user {os.geteuid()} with CAP_BPF and CAP_PERFMON"


def _bpf() -> str:
    with (
        trial_programs.make_counter() as counter,
        trial_programs.load(ProgramType.TRACEPOINT, trial_programs.counting(counter)),
    ):
        return "a map was created and a program loaded"


def _lockdown() -> str:
    with trial_programs.load(ProgramType.TRACEPOINT, trial_programs.READING_KERNEL_MEMORY):
        return "programs may read kernel memory"


def _jit() -> str:
    with trial_programs.load(
        ProgramType.TRACEPOINT, trial_programs.READING_KERNEL_MEMORY
    ) as program:
        size = program_info(program).jited_length
    if not size:
        raise UnsupportedError(
            "compile programs to machine code",
            cause="programs are interpreted, which is several times slower",
            hint="sysctl net.core.bpf_jit_enable=1",
        )
    return f"a program was compiled to {size} bytes of machine code"


def _btf() -> str:
    from tracer.kernel.btf import KernelTypes  # noqa: PLC0415 - needs libbpf, which has its own check

    with KernelTypes() as types:
        offset = types.offset_of("socket", "sk")
    size = Path("/sys/kernel/btf/vmlinux").stat().st_size
    return f"{size / 2**20:.1f} MiB; socket.sk is at byte {offset}"


def _operations() -> str:
    from tracer.kernel.btf import KernelTypes  # noqa: PLC0415 - as above
    from tracer.loading.plan import operations_by, preempts_tracepoints  # noqa: PLC0415

    require_rights()  # else no mechanism could be tested, and a fallback would look like the result
    with KernelTypes() as types:
        mechanism, is_disturbed = operations_by(types), preempts_tracepoints(types)
    if mechanism == "tracepoint" and is_disturbed:
        raise UnsupportedError(
            "see every call on a busy machine",
            cause="this kernel preempts the programs of tracepoints and has no kprobe_multi",
            hint='watch lunatik_socket_tracer_lost_total{reason="probe_missed"}; a kernel with '
            "CONFIG_FPROBE has no such loss",
        )
    return f"system calls are traced by {mechanism}"


def _pid_namespace() -> str:
    if not in_initial_pid_namespace():
        raise UnsupportedError(
            "use --pid",
            cause="this is a PID namespace, and the kernel side sees the host's process ids",
            hint="run on the host (docker: --pid=host), or filter with --comm or --cgroup",
        )
    return "that of the host"


def _cgroup() -> str:
    return f"cgroup2 on {cgroup_directory('/')}"


def _mechanism(name: str) -> Callable[[], str]:
    def body() -> str:
        prove(name)
        return "a program was loaded, attached and run"

    return body


_CHECKS: tuple[tuple[str, bool, Callable[[], str]], ...] = (
    ("rights", True, _rights),
    ("bpf(2)", True, _bpf),
    ("lockdown", True, _lockdown),
    ("jit", False, _jit),
    ("libbpf", True, toolchain.libbpf_version),
    ("btf", True, _btf),
    ("tracepoint", True, _mechanism("tracepoint")),
    ("tracefs", False, lambda: f"{tracefs_directory()}, for return probes (kprobe)"),
    ("operations", False, _operations),
    ("kprobe", False, _mechanism("kprobe")),
    ("fentry", False, _mechanism("fentry")),
    ("bcc", True, toolchain.bcc_version),
    ("compiler", True, toolchain.compile_trial),
    ("worker", True, worker_rights),
    ("broker", True, broker_rights),
    ("pid namespace", False, _pid_namespace),
    ("cgroup", False, _cgroup),
)

_AS_ROOT = "run as root, and not in a container that forbids bpf(2)"
_HINTS = {
    "bpf(2)": f"{_AS_ROOT}; the kernel needs CONFIG_BPF_SYSCALL",
    "lockdown": f"{_AS_ROOT}; kernel lockdown must not be at confidentiality",
    "jit": _AS_ROOT,
    "btf": "needs a kernel with CONFIG_DEBUG_INFO_BTF; distribution kernels have it",
    "tracefs": "mount -t tracefs tracefs /sys/kernel/tracing",
    "worker": _AS_ROOT,
    "broker": _AS_ROOT,
    "operations": "needs a kernel with CONFIG_FPROBE; distribution kernels have it",
    "pid namespace": "mount /proc",
    "cgroup": "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
}
