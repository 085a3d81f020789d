# SPDX-License-Identifier: MIT
"""Tests which ways to attach work here: a small program is loaded, attached and fired.

tracer/loading/plan.py chooses among the ways that work.

Kernel version and configuration are not consulted: distributions backport features, and some
kernels refuse a feature that they are configured with.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from tracer.errors import PermissionRefused, TracerError, UnsupportedError
from tracer.kernel import trial_programs
from tracer.kernel.architecture import architecture
from tracer.kernel.capabilities import lift_memory_limit, require_rights, tracefs_directory
from tracer.kernel.libbpf import libbpf
from tracer.kernel.programs import AttachType, ProgramType, attach_to_functions

__all__ = ["MECHANISMS", "can_cast", "prove", "prove_at_calls", "works"]

_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
_BTF_KIND_FUNC = 12
# It is called through a function pointer (struct file_operations), so it is never inlined.
_FUNCTION = "sock_close"


def prove(mechanism: str) -> None:
    """Raise TracerError unless `mechanism` works on this machine now."""
    require_rights()
    lift_memory_limit()
    try:
        _PROOFS[mechanism]()
    except TracerError:
        raise
    except PermissionError as error:
        raise PermissionRefused(
            "use",
            mechanism,
            f"this kernel refuses {mechanism}",
            error.errno,
            _HINTS[mechanism],
        ) from error
    except OSError as error:
        raise UnsupportedError.of(error, "use", mechanism, _HINTS[mechanism]) from error


def _prove_tracepoint() -> None:
    with (
        trial_programs.make_counter() as counter,
        trial_programs.load(
            ProgramType.RAW_TRACEPOINT, trial_programs.counting(counter)
        ) as program,
        trial_programs.attach(program, "sys_enter"),
    ):
        _require_fired("tracepoint", counter, os.getppid)


def _prove_kprobe() -> None:
    if not _KPROBE_TYPE.exists():
        raise UnsupportedError(
            "use",
            "kprobe",
            "this kernel has no kprobes (CONFIG_KPROBES)",
            hint="needs a kernel with CONFIG_KPROBES; distribution kernels have it",
        )
    tracefs_directory()  # return probes are made there
    with (
        trial_programs.make_counter() as counter,
        trial_programs.load(ProgramType.KPROBE, trial_programs.counting(counter)) as program,
        trial_programs.open_event(int(_KPROBE_TYPE.read_text()), name=_FUNCTION) as event,
    ):
        trial_programs.attach_to_event(event, program)
        _require_fired("kprobe", counter, _close_a_socket)


def _prove_fentry() -> None:
    function = _btf_id(_FUNCTION)
    with (
        trial_programs.make_counter() as counter,
        trial_programs.load(
            ProgramType.TRACING,
            trial_programs.counting(counter),
            attach_type=AttachType.FENTRY,
            function=function,
        ) as program,
        trial_programs.attach(program),
    ):
        _require_fired("fentry", counter, _close_a_socket)


def _prove_kprobe_multi() -> None:
    prove_at_calls([f"{architecture().prefix}close"])


def prove_at_calls(functions: Sequence[str]) -> None:
    """Test kprobe_multi on these functions of system calls, which must include that of close(2).

    Raises OSError or TracerError.
    """
    with (
        trial_programs.make_counter() as counter,
        trial_programs.load(
            ProgramType.KPROBE,
            trial_programs.counting(counter),
            attach_type=AttachType.KPROBE_MULTI,
        ) as program,
        trial_programs.closing(attach_to_functions(program, functions, at_return=True)),
    ):
        _require_fired("kprobe_multi", counter, _close_nothing)
        with trial_programs.closing(attach_to_functions(program, functions)):
            _require_fired("kprobe_multi", counter, _close_nothing, times=2)


_PROOFS: dict[str, Callable[[], None]] = {
    "tracepoint": _prove_tracepoint,
    "kprobe_multi": _prove_kprobe_multi,
    "kprobe": _prove_kprobe,
    "fentry": _prove_fentry,
}
_HINTS = {
    "tracepoint": "run as root, and not in a container that forbids bpf(2)",
    "kprobe_multi": "not needed: tracepoints count the same calls",
    "kprobe": "not needed: the operation layer works without it",
    "fentry": "not needed: the operation layer works without it",
}
MECHANISMS = tuple(_PROOFS)
"""The names that `prove` knows."""


def works(mechanism: str) -> bool:
    """Whether `prove` succeeds."""
    try:
        prove(mechanism)
    except TracerError:
        return False
    return True


def can_cast(function: int, words: int) -> bool:
    """Whether a program may call bpf_rdonly_cast() (6.2 on); both by their BTF ids."""
    try:
        with trial_programs.load(
            ProgramType.RAW_TRACEPOINT, trial_programs.casting(function, words)
        ):
            return True
    except OSError:
        return False


def _btf_id(function: str) -> int:
    btf = libbpf().btf__load_vmlinux_btf()
    if not btf:
        raise UnsupportedError(
            "use",
            "fentry",
            "the kernel has no type information (BTF)",
            hint="needs a kernel with CONFIG_DEBUG_INFO_BTF; distribution kernels have it",
        )
    try:
        number: int = libbpf().btf__find_by_name_kind(btf, function.encode(), _BTF_KIND_FUNC)
    finally:
        libbpf().btf__free(btf)
    if number <= 0:
        raise UnsupportedError(
            "use",
            "fentry",
            f'the kernel\'s type information (BTF) has no function "{function}"',
            hint="use kprobe, if it works here",
        )
    return number


def _require_fired(mechanism: str, counter: int, act: Callable[[], object], times: int = 1) -> None:
    before = trial_programs.count_of(counter)
    act()
    if trial_programs.count_of(counter) < before + times:
        raise UnsupportedError(
            "use",
            mechanism,
            "it attaches, but does not fire",
            hint="please report the version of this kernel",
        )


def _close_nothing() -> None:
    with contextlib.suppress(OSError):
        os.close(-1)


def _close_a_socket() -> None:
    socket.socket(socket.AF_UNIX).close()
