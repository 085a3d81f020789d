"""The short-lived child that compiles, loads and attaches, hands every descriptor over, and exits.

bcc brings a whole compiler into its process, over 100 MB of it. Here it lives for the second it
is needed; what must stay (maps, programs, the perf events that hold the probes) goes to the parent
over a Unix socket as SCM_RIGHTS. When the parent dies, however it dies, the kernel closes those
descriptors, and every probe is gone.

The one module that imports bcc. The protocol, in packets: the parent sends its Config as JSON; the
answer is JSON, `{"error": kind, "message": …}` or a description of what follows, and then come the
descriptors in the order the description names them.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

from tracer.config import Config
from tracer.errors import PermissionRefused, ProgramError, TracerError, UnsupportedError
from tracer.program import Attachment, Program, bpf_directory, operation_layer

__all__ = ["main"]

_DESCRIPTORS_AT_ONCE = 128  # the kernel takes no more than 253 (SCM_MAX_FD)
_REQUEST_BYTES = 1 << 20


def main(descriptor: int) -> None:
    """Serve the one request on the Unix socket of this number, then return."""
    with socket.socket(fileno=descriptor) as parent:
        request = json.loads(parent.recv(_REQUEST_BYTES))
        try:
            description, descriptors = _load(
                Config.from_json(request["config"]), Path(request["tracefs"])
            )
        except TracerError as error:
            description = {"error": type(error).__name__, "message": str(error)}
            descriptors = []
        parent.send(json.dumps(description).encode())
        for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
            socket.send_fds(parent, [b"."], descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    # Without the interpreter's tidying up, which takes longer than all that is left to do.
    os._exit(0)


def _import_bcc() -> Any:
    # bcc asks for a kernel source tree; ours is in bpf/ and needs nothing installed.
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "kernel_headers")
    try:
        import bcc  # noqa: PLC0415
    except ImportError as error:
        raise UnsupportedError(
            f"cannot import bcc: {error}; install python3-bpfcc (Debian, Ubuntu), python3-bcc "
            "(Fedora) or python-bcc (Arch)"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise UnsupportedError(
            f'cannot use the bcc in "{bcc.__file__}": it is another project of that name, from '
            "PyPI; remove it with pip and install python3-bpfcc (Debian, Ubuntu)"
        )
    return bcc


def _load(config: Config, tracefs: Path) -> tuple[dict[str, Any], list[int]]:
    bcc = _import_bcc()
    program = operation_layer(config, tracefs)
    bpf = _compile(bcc, program)
    failures: dict[str, str] = {}
    for item in program.attachments:
        if (failure := _attach(bpf, item)) is not None:
            failures[item.probe or item.tracepoint] = failure
    if not bpf.tracepoint_fds:
        raise ProgramError(
            "cannot attach any probe: " + next(iter(failures.values())) + "; see doctor"
        )
    programs = {name.decode(): function.fd for name, function in bpf.funcs.items()}
    descriptors = [
        *(bpf[name].map_fd for name in program.maps),
        *programs.values(),
        *bpf.tracepoint_fds.values(),
    ]
    description = {
        "maps": program.maps,
        "programs": list(programs),
        "probes": program.probes,
        "failures": failures,
        "descriptors": len(descriptors),
    }
    return description, descriptors


def _compile(bcc: Any, program: Program) -> Any:
    try:
        return bcc.BPF(text=program.text)
    except Exception as error:  # bcc raises nothing finer
        raise ProgramError(
            f"cannot compile the BPF programs: {error}; please report this"
        ) from error


def _attach(bpf: Any, item: Attachment) -> str | None:
    """None, or why it could not be done."""
    try:
        bpf.attach_tracepoint(tp=item.tracepoint, fn_name=item.function)
    except Exception as error:  # bcc raises nothing finer
        if "super-user" in str(error):
            raise PermissionRefused(
                "cannot load BPF programs: the kernel refuses (EPERM); needs CAP_BPF and "
                "CAP_PERFMON: run as root, and see whether kernel lockdown is on"
            ) from error
        return str(error)
    return None
