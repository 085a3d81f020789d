# SPDX-License-Identifier: MIT
"""The short-lived child that compiles, loads and attaches, hands every descriptor over, and exits.

bcc brings a whole compiler into its process, over 100 MB of it. Here it lives for the second it
is needed; what must stay (maps, programs, the links and events that hold the probes) goes to the
parent over a Unix socket as SCM_RIGHTS. When the parent dies, however it dies, the kernel closes
those descriptors, and every probe is gone.

The one module that imports bcc. The protocol, in packets: the parent sends its Config as JSON; the
answer is JSON, `{"error": …}` (TracerError.to_json) or a description of what follows, and then
come the descriptors in the order the description names them.
"""

import errno
import json
import os
import socket
from typing import Any

from tracer.errors import PermissionRefused, ProgramError, TracerError, UnsupportedError
from tracer.kernel import raw_bpf
from tracer.kernel.kprobe_events import event_name
from tracer.loading.attachments import Attachment
from tracer.loading.function_layer import FUNCTION_PROGRAMS
from tracer.loading.instructions import put_casts, put_constants, text_of
from tracer.loading.source import Program, bpf_directory, build
from tracer.model.config import Config

__all__ = ["Attacher", "compile_program", "import_bcc", "main"]

_DESCRIPTORS_AT_ONCE = 128  # the kernel takes no more than 253 (SCM_MAX_FD)
_REQUEST_BYTES = 1 << 20
_CALLS_IN_PROGRESS = 4096  # the kernel's KRETPROBE_MAXACTIVE_MAX


def main(descriptor: int) -> None:
    """Serve the one request on the Unix socket of this number, then return."""
    with socket.socket(fileno=descriptor) as parent:
        request = json.loads(parent.recv(_REQUEST_BYTES))
        try:
            description, descriptors = _load(request)
        except TracerError as error:
            description = {"error": error.to_json()}
            descriptors = []
        parent.send(json.dumps(description).encode())
        for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
            socket.send_fds(parent, [b"."], descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    # Without the interpreter's tidying up, which takes longer than all that is left to do.
    os._exit(0)


def import_bcc() -> Any:
    """The module, found and told from its namesake; raises UnsupportedError with a hint."""
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


def _load(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    bcc = import_bcc()
    config = Config.from_json(request["config"])
    program = build(config, request["mechanism"])
    bpf = compile_program(bcc, program)
    attacher = Attacher(bcc, bpf, request["owner"])
    failures: dict[str, str] = {}
    for item in program.attachments:
        if item.target in failures:
            continue  # an entry of which the return cannot be seen is not to be seen either
        if (failure := attacher.attach(item)) is None:
            continue
        if item.program not in FUNCTION_PROGRAMS:
            raise ProgramError("attach to", item.target, failure, hint="see lunatik-socket doctor")
        failures[item.target] = failure
        attacher.detach(item.target)  # nor a return without its entry
    descriptors = [
        *(bpf[name].map_fd for name in program.maps),
        *attacher.programs.values(),
        *attacher.probes,
    ]
    description = {
        "mechanism": request["mechanism"],
        "operations_by": program.operations.mechanism,
        "maps": program.maps,
        "programs": list(attacher.programs),
        "probes": program.operations.calls,
        "functions": [function.name for function in program.functions.functions],
        "absent": program.functions.absent,
        "failures": failures,
        "descriptors": len(descriptors),
    }
    return description, descriptors


def compile_program(bcc: Any, program: Program) -> Any:
    """bcc's object, ready to load programs from: instructions put right, tables filled."""

    class Quiet(bcc.BPF):  # type: ignore[misc]
        """bcc attaches functions of certain names by itself, and fails as a whole if one fails."""

        def _trace_autoload(self) -> None:
            pass

    try:
        bpf = Quiet(text=program.text)
    except Exception as error:  # bcc raises nothing finer
        raise ProgramError(
            "compile the BPF programs", cause=str(error), hint="please report this"
        ) from error
    if program.cast is not None:
        put_casts(bcc, bpf.module, program.cast)
    table = bpf["system_calls"]
    for number, value in program.operations.table.items():
        table[table.Key(number)] = table.Leaf.from_buffer_copy(value)
    return bpf


class Attacher:
    """Loads what bcc compiled, and attaches it.

    `programs` are the descriptors of those loaded, by name; `probes` those of what holds them.
    """

    def __init__(self, bcc: Any, bpf: Any, owner: int) -> None:
        self._bcc, self._bpf, self._owner = bcc, bpf, owner
        self.programs: dict[str, int] = {}
        self._held: list[tuple[str, int]] = []

    @property
    def probes(self) -> list[int]:
        """In the order in which they were attached."""
        return [descriptor for _, descriptor in self._held]

    def attach(self, item: Attachment) -> str | None:
        """None, or why it could not be done."""
        try:
            self._held.append((item.target, getattr(self, f"_{item.kind}")(item)))
        except Exception as error:  # bcc raises nothing finer
            refused = isinstance(error, OSError) and error.errno == errno.EPERM
            if refused and item.program not in FUNCTION_PROGRAMS:
                raise PermissionRefused(
                    "load BPF programs",
                    cause="the kernel refuses",
                    errno=errno.EPERM,
                    hint="run as root (needs CAP_BPF and CAP_PERFMON), and check whether kernel "
                    "lockdown is on",
                ) from error
            return str(error)
        return None

    def detach(self, place: str) -> None:
        """What is attached at this place already."""
        for descriptor in [fd for at, fd in self._held if at == place]:
            os.close(descriptor)
        self._held = [(at, fd) for at, fd in self._held if at != place]

    def _raw_tracepoint(self, item: Attachment) -> int:
        program = self._program(item, raw_bpf.Kind.RAW_TRACEPOINT)
        lib = self._bcc.lib
        return _checked(lib.bpf_attach_raw_tracepoint(program, item.target.encode()), item)

    def _kprobe_multi(self, item: Attachment, *, at_return: bool = False) -> int:
        program = self._program(item, raw_bpf.Kind.KPROBE, raw_bpf.Kind.KPROBE_MULTI)
        targets = item.target.split(",")
        return raw_bpf.attach_to_functions(program, targets, at_return=at_return)

    def _kretprobe_multi(self, item: Attachment) -> int:
        return self._kprobe_multi(item, at_return=True)

    def _kprobe(self, item: Attachment) -> int:
        return self._attach_kprobe(item, 0, f"p_{item.target}", 0)

    def _kretprobe(self, item: Attachment) -> int:
        """With room for many blocked calls, under a name that tells whose it is."""
        name = event_name(self._owner, item.target)
        return self._attach_kprobe(item, 1, name, _CALLS_IN_PROGRESS)

    def _attach_kprobe(self, item: Attachment, at_return: int, name: str, most: int) -> int:
        program = self._program(item, raw_bpf.Kind.KPROBE)
        names = (name.encode(), item.target.encode())
        return _checked(self._bcc.lib.bpf_attach_kprobe(program, at_return, *names, 0, most), item)

    def _fentry(self, item: Attachment) -> int:
        program = self._program(item, raw_bpf.Kind.TRACING, raw_bpf.Kind.FENTRY)
        return _checked(self._bcc.lib.bpf_attach_kfunc(program), item)

    def _fexit(self, item: Attachment) -> int:
        program = self._program(item, raw_bpf.Kind.TRACING, raw_bpf.Kind.FEXIT)
        return _checked(self._bcc.lib.bpf_attach_kfunc(program), item)

    def _program(self, item: Attachment, kind: int, attach_type: int = 0) -> int:
        """What bcc compiled, loaded; with the function's own constants, if it is at a function."""
        name = item.program + item.copy
        text = text_of(self._bcc, self._bpf.module, item.program)
        if item.constants:
            name = f"{item.kind}_{item.target}{item.copy}"
            text = put_constants(text, dict(item.constants))
        self.programs[name] = raw_bpf.load_program(
            kind,
            text,
            name=name,
            attach_type=attach_type,
            function=item.type_id if kind == raw_bpf.Kind.TRACING else 0,
        )
        return self.programs[name]


def _checked(descriptor: int, item: Attachment) -> int:
    if descriptor < 0:
        raise OSError(f"cannot attach a {item.kind} to {item.target}")
    return descriptor
