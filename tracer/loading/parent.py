# SPDX-License-Identifier: MIT
"""The parent's side of the loader: run it, take over what it loaded."""

import json
import os
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tracer.errors import ProgramError, TracerError
from tracer.kernel.maps import Map
from tracer.model.config import Config
from tracer.process.interpreter import loader_interpreter

__all__ = ["Loaded", "load"]

_TIMEOUT_SECONDS = 180  # a compilation takes a second, under emulation a minute
_DESCRIPTORS_AT_ONCE = 253  # the kernel's SCM_MAX_FD
# The first entry would be the current directory, where anyone may have put a module.
_START = (
    "import sys; sys.path[0] = sys.argv[2]; "
    "from tracer.loading import child; child.main(int(sys.argv[1]))"
)


@dataclass
class Loaded:
    """What the loader left to us: it all goes when `close` is called or this process ends.

    `probes` and `functions` are the names of the two layers' probes by their numbers in the maps,
    `absent` the functions that this kernel lacks; `failures` says why a probe could not be
    attached. `mechanism` is the function layer's, `operations_by` the other one's. `owner` is set
    to our pid if probes were made that outlive us without care.
    """

    maps: dict[str, Map]
    programs: dict[str, int]
    mechanism: str
    operations_by: str
    probes: tuple[str, ...]
    functions: tuple[str, ...]
    absent: tuple[str, ...]
    owner: int | None
    failures: dict[str, str]
    descriptors: list[int] = field(repr=False)

    def close(self) -> None:
        """Close every descriptor, the probes' first, so that the kernel removes it all."""
        for descriptor in reversed(self.descriptors):
            os.close(descriptor)
        self.descriptors = []


def load(config: Config, mechanism: str, inherited: tuple[int, ...] = ()) -> Loaded:
    """Have the program for `config` compiled, loaded and attached; raises TracerError.

    `mechanism` is the function layer's, "tracepoint" for none. `inherited` are descriptors that the
    loader shall hold, too, while it lives.
    """
    request = {
        "config": config.to_json(),
        "mechanism": mechanism,
        "owner": os.getpid(),
    }
    # The log is a file, not a pipe: a compiler with much to say must not wait for a reader.
    with tempfile.TemporaryFile() as log:
        ours, child = _start_loader(log, inherited)
        with ours:
            try:
                ours.send(json.dumps(request).encode())
                description, descriptors = _receive(ours)
            except (OSError, ValueError) as error:
                failure = ProgramError(
                    "load the BPF programs",
                    cause="the loader ended without an answer "
                    f"({error or type(error).__name__}); its output: {_read(log) or 'none'}",
                )
                failure.log = _read(log)
                raise failure from error
            finally:
                child.kill()
                child.wait()
        if "error" in description:
            raise _as_exception(description, _read(log))
    return _assemble(description, descriptors)


def _start_loader(
    log: IO[bytes], inherited: tuple[int, ...]
) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        child = subprocess.Popen(
            [
                loader_interpreter(),
                "-c",
                _START,
                str(theirs.fileno()),
                str(Path(__file__).parents[2]),
            ],
            pass_fds=[theirs.fileno(), *inherited],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    ours.settimeout(_TIMEOUT_SECONDS)
    return ours, child


def _receive(ours: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The description, and the descriptors it announces."""
    description = json.loads(ours.recv(1 << 20))
    descriptors: list[int] = []
    try:
        while len(descriptors) < description.get("descriptors", 0):
            message, more, _, _ = socket.recv_fds(ours, 1, _DESCRIPTORS_AT_ONCE)
            descriptors += more
            if not message or not more:
                raise ConnectionError("it ended before it had handed over all")  # noqa: TRY301
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return description, descriptors


def _read(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").strip()


def _as_exception(description: dict[str, Any], log: str) -> TracerError:
    error = TracerError.from_json(description["error"])
    if isinstance(error, ProgramError):
        error.log = log
    return error


def _assemble(description: dict[str, Any], descriptors: list[int]) -> Loaded:
    remaining = iter(descriptors)
    return Loaded(
        maps={name: Map(next(remaining)) for name in description["maps"]},
        programs={name: next(remaining) for name in description["programs"]},
        mechanism=description["mechanism"],
        operations_by=description["operations_by"],
        probes=tuple(description["probes"]),
        functions=tuple(description["functions"]),
        absent=tuple(description["absent"]),
        owner=os.getpid() if description["mechanism"] == "kprobe" else None,
        failures=description["failures"],
        descriptors=descriptors,
    )
