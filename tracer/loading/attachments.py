# SPDX-License-Identifier: MIT
"""A program and where it attaches: the layers ask for it, the child of the loader does it."""

import errno
import os
from dataclasses import dataclass
from typing import Any

from tracer.errors import PermissionRefused, TracerError
from tracer.kernel import programs
from tracer.kernel.kprobe_events import event_name
from tracer.kernel.programs import AttachType, ProgramType
from tracer.loading.instructions import put_constants, text_of

__all__ = ["COPY", "Attacher", "Attachment"]

_CALLS_IN_FLIGHT = 4096  # the kernel's KRETPROBE_MAXACTIVE_MAX
_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # not the program's fault
_RAISE = "raise the limit (ulimit -n, ulimit -l, MemoryMax=)"
_FUNCTION_KINDS = ("kprobe", "kretprobe", "fentry", "fexit")

COPY = "_again"
"""The ending of the name of a program's copy at the same target.

While a program is preempted, the kernel skips it on that CPU, but not its copy.
"""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program at one target in the kernel, or at several.

    `kind` is raw_tracepoint, kprobe, kretprobe, fentry, fexit, kprobe_multi or kretprobe_multi;
    `target` is the name of a tracepoint or of a function, and `type_id` the function's BTF id. For
    the last two kinds `target` is the names of all functions, with commas. `constants` are put into
    the program (tracer/loading/instructions.py). `copy` is `COPY` or nothing.
    """

    kind: str
    program: str
    target: str
    copy: str = ""
    type_id: int = 0
    constants: tuple[tuple[str, int], ...] = ()

    @property
    def is_required(self) -> bool:
        """Whether tracing needs it. Programs of the function layer may fail one by one."""
        return self.kind not in _FUNCTION_KINDS


class Attacher:
    """Loads what bcc compiled, and attaches it.

    `programs` are the descriptors of the loaded programs, by name.
    """

    def __init__(self, bcc: Any, bpf: Any, owner: int) -> None:
        self._bcc, self._bpf, self._owner = bcc, bpf, owner
        self.programs: dict[str, int] = {}
        self._held: list[tuple[str, int]] = []

    @property
    def probes(self) -> list[int]:
        """The descriptors that keep the probes attached, in the order of attaching."""
        return [descriptor for _, descriptor in self._held]

    @property
    def targets(self) -> tuple[str, ...]:
        """What each of `probes` is attached to."""
        return tuple(target for target, _ in self._held)

    def attach(self, item: Attachment) -> Exception | None:
        """Load and attach one; returns None, or the reason of the failure."""
        try:
            self._held.append((item.target, getattr(self, f"_{item.kind}")(item)))
        except Exception as error:  # bcc raises no narrower type
            if not isinstance(error, OSError) or not item.is_required:
                return error
            if error.errno in _LIMITS:
                raise TracerError(
                    "attach to", item.target, errno=error.errno, hint=_RAISE
                ) from error
            if error.errno == errno.EPERM:
                raise PermissionRefused(
                    "load BPF programs",
                    cause="the kernel refuses",
                    errno=errno.EPERM,
                    hint="run as root (needs CAP_BPF and CAP_PERFMON), and check whether kernel "
                    "lockdown is on",
                ) from error
            return error
        return None

    def detach(self, target: str) -> None:
        """Detach everything from this target."""
        for descriptor in [fd for at, fd in self._held if at == target]:
            os.close(descriptor)
        self._held = [(at, fd) for at, fd in self._held if at != target]

    def _raw_tracepoint(self, item: Attachment) -> int:
        program = self._program(item, ProgramType.RAW_TRACEPOINT)
        return programs.attach_to_raw_tracepoint(program, item.target)

    def _kprobe_multi(self, item: Attachment, *, at_return: bool = False) -> int:
        program = self._program(item, ProgramType.KPROBE, AttachType.KPROBE_MULTI)
        targets = item.target.split(",")
        return programs.attach_to_functions(program, targets, at_return=at_return)

    def _kretprobe_multi(self, item: Attachment) -> int:
        return self._kprobe_multi(item, at_return=True)

    def _kprobe(self, item: Attachment) -> int:
        return self._attach_kprobe(item, 0, f"p_{item.target}", 0)

    def _kretprobe(self, item: Attachment) -> int:
        """Attach with room for many blocked calls, under a name with the pid of this tracer."""
        name = event_name(self._owner, item.target)
        return self._attach_kprobe(item, 1, name, _CALLS_IN_FLIGHT)

    def _attach_kprobe(self, item: Attachment, at_return: int, name: str, most: int) -> int:
        """Attach through bcc, which makes the event in tracefs; libbpf cannot set maxactive."""
        program = self._program(item, ProgramType.KPROBE)
        names = (name.encode(), item.target.encode())
        event: int = self._bcc.lib.bpf_attach_kprobe(program, at_return, *names, 0, most)
        if event < 0:
            raise OSError(f"cannot attach a {item.kind} to {item.target}")
        return event

    def _fentry(self, item: Attachment) -> int:
        return programs.attach_tracing(self._program(item, ProgramType.TRACING, AttachType.FENTRY))

    def _fexit(self, item: Attachment) -> int:
        return programs.attach_tracing(self._program(item, ProgramType.TRACING, AttachType.FEXIT))

    def _program(
        self, item: Attachment, kind: ProgramType, attach_type: AttachType = AttachType.DEFAULT
    ) -> int:
        """Load the compiled program, for a function with the constants of that function."""
        name = item.program + item.copy
        text = text_of(self._bcc, self._bpf.module, item.program)
        if item.constants:
            name = f"{item.kind}_{item.target}{item.copy}"
            text = put_constants(text, dict(item.constants))
        self.programs[name] = programs.load_program(
            kind,
            text,
            name=name,
            attach_type=attach_type,
            function=item.type_id if kind == ProgramType.TRACING else 0,
        )
        return self.programs[name]
