# SPDX-License-Identifier: MIT
"""The short-lived child that compiles, loads, attaches, hands all descriptors over, and exits.

bcc brings a compiler into its process, over 100 MB. This child runs for about a second. What must
stay (maps, programs, the links and events that hold the probes) goes to the parent over a Unix
socket as SCM_RIGHTS. When the parent ends, even by SIGKILL, the kernel closes those descriptors and
removes the probes.

This is the one module that imports bcc. It decides nothing: the parent's Order, as JSON on standard
input, says what to load and where to attach it (`tracer.loading.hand_over`).
"""

import errno
import json
import os
import socket
import sys
from typing import Any

from tracer.errors import PermissionRefused, ProgramError, TracerError, UnsupportedError
from tracer.kernel import programs
from tracer.kernel.kprobe_events import event_name
from tracer.kernel.programs import AttachType, ProgramType
from tracer.loading.attachments import Attachment
from tracer.loading.function_layer import FUNCTION_PROGRAMS
from tracer.loading.hand_over import Order, Report, answer_to_json
from tracer.loading.instructions import put_casts, put_constants, text_of
from tracer.loading.source import bpf_directory
from tracer.model.layout import Layout, MapLayout

__all__ = ["Attacher", "compile_program", "import_bcc", "main"]

_DESCRIPTORS_AT_ONCE = 128  # the kernel takes no more than 253 (SCM_MAX_FD)
_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # no fault of the program
_RAISE = "raise the limit (ulimit -n, ulimit -l, MemoryMax=)"
_CALLS_IN_FLIGHT = 4096  # the kernel's KRETPROBE_MAXACTIVE_MAX


def main(descriptor: int) -> None:
    """Carry out the order, answer on the Unix socket with this descriptor, end the process."""
    order = Order.from_json(json.load(sys.stdin))
    with socket.socket(fileno=descriptor) as parent:
        answer: Report | TracerError
        try:
            answer, descriptors = _carry_out(order)
        except TracerError as error:
            answer, descriptors = error, []
        parent.send(json.dumps(answer_to_json(answer)).encode())
        for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
            socket.send_fds(parent, [b"."], descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    # Without the interpreter's finalization, which takes longer than all that is left to do.
    os._exit(0)


def import_bcc() -> Any:
    """The module, told from another of that name; raises UnsupportedError with a hint."""
    # bcc asks for a kernel source tree; ours is in bpf/ and needs nothing installed.
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "kernel_headers")
    try:
        import bcc  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedError(
            "import",
            "bcc",
            str(error),
            hint="install python3-bpfcc (Debian, Ubuntu), python3-bcc (Fedora) or python-bcc "
            "(Arch)",
        ) from error
    if not hasattr(bcc, "BPF"):
        raise UnsupportedError(
            "use the bcc in",
            bcc.__file__,
            "it is another project of that name, from PyPI",
            hint="remove it with pip and install python3-bpfcc (Debian, Ubuntu)",
        )
    return bcc


def _carry_out(order: Order) -> tuple[Report, list[int]]:
    bcc = import_bcc()
    bpf = compile_program(bcc, order)
    attacher = Attacher(bcc, bpf, order.owner)
    failures: dict[str, str] = {}
    for item in order.attachments:
        if item.target in failures:
            continue  # its return probe failed: without that one, entries would only add up
        if (failure := attacher.attach(item)) is None:
            continue
        if item.program not in FUNCTION_PROGRAMS:
            error = ProgramError(
                "attach to", item.target, str(failure), hint="see lunatik-socket doctor"
            )
            error.log = "\n".join(getattr(failure, "__notes__", []))  # the verifier's log
            raise error
        failures[item.target] = str(failure)
        attacher.detach(item.target)  # the return probe, which is of no use alone
    tables = {name: bpf[name] for name in order.maps}
    report = Report(
        maps={name: _layout(table) for name, table in tables.items()},
        programs=tuple(attacher.programs),
        probes=attacher.targets,
        failures=failures,
    )
    descriptors = [
        *(table.map_fd for table in tables.values()),
        *attacher.programs.values(),
        *attacher.probes,
    ]
    return report, descriptors


def _layout(table: Any) -> MapLayout:
    # Of a per-CPU map, bcc's `Leaf` is an array for all CPUs, and `sLeaf` what one of them has.
    return MapLayout(Layout.of(table.Key), Layout.of(getattr(table, "sLeaf", table.Leaf)))


def compile_program(bcc: Any, order: Order) -> Any:
    """bcc's object with the instructions changed and the tables filled, ready to load programs."""

    class Quiet(bcc.BPF):  # type: ignore[misc]
        """bcc attaches functions by their names, and fails if one of them fails: not this class."""

        def _trace_autoload(self) -> None:
            pass

    try:
        bpf = Quiet(text=order.text)
    except Exception as error:  # bcc raises nothing finer
        raise ProgramError(
            "compile the BPF programs", cause=str(error), hint="please report this"
        ) from error
    if order.cast is not None:
        put_casts(bcc, bpf.module, order.cast)
    for name, rows in order.tables.items():
        table = bpf[name]
        for key, fields in rows.items():
            table[table.Key(key)] = table.Leaf(**fields)
    return bpf


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
        """The descriptors that hold what is attached, in the order of attaching."""
        return [descriptor for _, descriptor in self._held]

    @property
    def targets(self) -> tuple[str, ...]:
        """What each of `probes` is attached to."""
        return tuple(target for target, _ in self._held)

    def attach(self, item: Attachment) -> Exception | None:
        """Load and attach one; returns None, or the reason of the failure."""
        try:
            self._held.append((item.target, getattr(self, f"_{item.kind}")(item)))
        except Exception as error:  # bcc raises nothing finer
            if not isinstance(error, OSError) or item.program in FUNCTION_PROGRAMS:
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
        """Detach all that is attached to this target."""
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
        """With room for many blocked calls, under a name that says which tracer made it."""
        name = event_name(self._owner, item.target)
        return self._attach_kprobe(item, 1, name, _CALLS_IN_FLIGHT)

    def _attach_kprobe(self, item: Attachment, at_return: int, name: str, most: int) -> int:
        """By bcc, which makes the event by name in tracefs: libbpf cannot set maxactive."""
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
