"""The short-lived child that compiles, loads and attaches, hands every descriptor over, and exits.

bcc brings a whole compiler into its process, over 100 MB of it. Here it lives for the second it
is needed; what must stay (maps, programs, the perf events that hold the probes) goes to the parent
over a Unix socket as SCM_RIGHTS. When the parent dies, however it dies, the kernel closes those
descriptors, and every probe is gone.

The one module that imports bcc. The protocol: the parent sends its Config as one JSON message;
the answer is one JSON message, `{"error": kind, "message": …}` or a description of what follows,
and then the descriptors, in chunks, in the order the description names them.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracer.config import Config
from tracer.errors import TracerError, UnsupportedError
from tracer.program import Program, bpf_directory, operation_layer

__all__ = ["DESCRIPTORS_PER_MESSAGE", "main"]

DESCRIPTORS_PER_MESSAGE = 128  # the kernel takes no more than 253 (SCM_MAX_FD)
_MAP_NAMES = ("cells", "entries", "returns", "events", "threads")


def main(descriptor: int) -> None:
    """Serve the one request on the Unix socket of this number, then return."""
    with socket.socket(fileno=descriptor) as parent:
        request = json.loads(parent.recv(1 << 20))
        try:
            description, descriptors = _load(Config.from_json(request["config"]), request)
        except TracerError as error:
            _answer(parent, {"error": type(error).__name__, "message": str(error)})
            return
        _answer(parent, description)
        for chunk in _chunks(descriptors, DESCRIPTORS_PER_MESSAGE):
            socket.send_fds(parent, [b"."], chunk)


def _answer(parent: socket.socket, message: dict[str, Any]) -> None:
    parent.sendall(json.dumps(message).encode() + b"\n")


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


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


def _load(config: Config, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    bcc = _import_bcc()
    program = operation_layer(config, Path(request["tracefs"]))
    bpf = _compile(bcc, program)
    failures = [failure for item in program.attachments if (failure := _attach(bpf, item))]
    maps = [*_MAP_NAMES]
    maps += ["labelled_cells"] * (config.label is not None)
    maps += ["followed"] * bool(config.filter.pids)
    maps += ["cgroups"] * bool(config.filter.cgroup)
    programs = {name.decode(): function.fd for name, function in bpf.funcs.items()}
    description = {
        "maps": maps,
        "programs": list(programs),
        "probes": list(program.probes),
        "failures": failures,
        "attached": len(bpf.tracepoint_fds),
    }
    tables = [bpf[name].map_fd for name in maps]
    return description, [*tables, *programs.values(), *bpf.tracepoint_fds.values()]


def _compile(bcc: Any, program: Program) -> Any:
    try:
        return bcc.BPF(text=program.text)
    except Exception as error:  # bcc raises nothing finer
        raise TracerError(f"cannot compile the BPF programs: {error}") from error


def _attach(bpf: Any, item: Any) -> dict[str, str] | None:
    try:
        bpf.attach_tracepoint(tp=item.tracepoint, fn_name=item.function)
    except Exception as error:  # bcc raises nothing finer
        return {"tracepoint": item.tracepoint, "probe": item.probe, "message": str(error)}
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]))
