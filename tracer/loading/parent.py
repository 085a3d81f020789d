# SPDX-License-Identifier: MIT
"""The parent's side of the loader: decide what to load, run the child, take over what it loaded."""

import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from errno import EMFILE
from pathlib import Path
from typing import IO

from tracer.errors import ProgramError, TracerError
from tracer.kernel.btf import KernelTypes
from tracer.kernel.maps import Map
from tracer.loading.hand_over import (
    MalformedError,
    Order,
    Report,
    answer_from_json,
    read_json,
)
from tracer.loading.operation_layer import targets_of_call
from tracer.loading.plan import Plan, make_plan
from tracer.loading.source import Program, build
from tracer.model.config import Config
from tracer.process.interpreter import loader_interpreter, safe_environment

__all__ = ["Loaded", "load", "order_for", "program_for"]

_TIMEOUT_SECONDS = 180  # a compilation takes a second, under emulation a minute
_DESCRIPTORS_AT_ONCE = 253  # the kernel's SCM_MAX_FD
_ANSWER_BYTES = 1 << 20
_OTHER_DESCRIPTORS = 10  # standard input to error, the compiler's, the socket to the loader
_END_SECONDS = 5
# How the loader, bcc, LLVM and the dynamic linker say that there is no memory.
_OUT_OF_MEMORY = (
    "out of memory",
    "bad_alloc",
    "memoryerror",
    "cannot allocate memory",
    "map segment",
)
_MORE_MEMORY = "raise the memory limit (ulimit -v, MemoryMax=)"
# Not from the current directory (-P), where any user may have put a module.
_START = (
    "import sys; sys.path.insert(0, sys.argv[2]); "
    "from tracer.loading import child; child.main(int(sys.argv[1]))"
)


@dataclass
class Loaded:
    """What the loader handed over; it is removed when `close` is called or this process ends.

    `plan` is how the layers are attached. `calls` and `functions` are the names of the two layers'
    probes by their numbers in the maps, `attached` the names of those that are attached, `failures`
    the reasons why others are not. `absent` are functions that this kernel does not have. `owner`
    is our pid if there are probes that stay in tracefs when this process ends, otherwise None.
    """

    plan: Plan
    maps: dict[str, Map]
    programs: dict[str, int]
    calls: tuple[str, ...]
    functions: tuple[str, ...]
    absent: tuple[str, ...]
    attached: frozenset[str]
    failures: dict[str, str]
    owner: int | None
    descriptors: list[int] = field(repr=False)

    def close(self) -> None:
        """Close every descriptor, the probes' first; the kernel then removes what they held."""
        for descriptor in reversed(self.descriptors):
            os.close(descriptor)
        self.descriptors = []


def program_for(config: Config) -> Program:
    """What to load for these settings on this kernel, without loading it; raises TracerError."""
    with KernelTypes() as types:
        return build(config, make_plan(config.mechanism, types), types)


def load(program: Program, inherited: tuple[int, ...] = ()) -> Loaded:
    """Compile, load and attach it, in a child; raises TracerError.

    The child also holds the descriptors `inherited` open, until it ends.
    """
    _check_open_files(program)
    report, descriptors = _run_loader(order_for(program), inherited)
    return _assemble(program, report, descriptors)


def _check_open_files(program: Program) -> None:
    """Refuse at once: the compiler reports a lack of descriptors as a failed compilation."""
    needed = len(program.maps) + 2 * len(program.attachments) + _OTHER_DESCRIPTORS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise TracerError(
            "load the BPF programs",
            cause=f"{needed} files must be open, and the limit is {limit}",
            errno=EMFILE,
            hint="raise it (ulimit -n, LimitNOFILE=)",
        )


def order_for(program: Program) -> Order:
    """The order for the child."""
    return Order(
        text=program.text,
        cast=program.cast,
        tables=program.tables,
        attachments=program.attachments,
        maps=program.maps,
        owner=os.getpid(),
    )


def _run_loader(order: Order, inherited: tuple[int, ...]) -> tuple[Report, list[int]]:
    # Files, not pipes: neither process waits for the other one to read.
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as log:
        request.write(json.dumps(order.to_json()).encode())
        request.seek(0)
        ours, child = _start_loader(request, log, inherited)
        with ours:
            try:
                answer, descriptors = _receive(ours)
            except MalformedError as error:
                raise _malformed(str(error)) from error
            except OSError as error:
                raise _no_answer(child, log) from error
            finally:
                child.kill()
                child.wait()
        if isinstance(answer, TracerError):
            raise _with_log(answer, _read(log))
    return answer, descriptors


def _start_loader(
    request: IO[bytes], log: IO[bytes], inherited: tuple[int, ...]
) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        child = subprocess.Popen(
            [
                loader_interpreter(),
                "-P",
                "-c",
                _START,
                str(theirs.fileno()),
                str(Path(__file__).parents[2]),
            ],
            pass_fds=[theirs.fileno(), *inherited],
            stdin=request,
            stdout=log,
            stderr=log,
            env=safe_environment(),
        )
    ours.settimeout(_TIMEOUT_SECONDS)
    return ours, child


def _receive(ours: socket.socket) -> tuple[Report | TracerError, list[int]]:
    """The answer, and the descriptors that it announces."""
    if not (message := ours.recv(_ANSWER_BYTES)):
        raise ConnectionError("it ended before it had answered")
    answer = answer_from_json(read_json(message))
    descriptors: list[int] = []
    if isinstance(answer, TracerError):
        return answer, descriptors
    try:
        while len(descriptors) < answer.descriptors:
            message, more, _, _ = socket.recv_fds(ours, 1, _DESCRIPTORS_AT_ONCE)
            descriptors += more
            if not message or not more:
                raise ConnectionError("it ended before it had handed everything over")  # noqa: TRY301
        if len(descriptors) > answer.descriptors:
            raise MalformedError(  # noqa: TRY301
                f"{len(descriptors)} descriptors came, of {answer.descriptors} that were announced"
            )
    except BaseException:
        _close(descriptors)
        raise
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return answer, descriptors


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _read(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").strip()


def _malformed(cause: str) -> TracerError:
    return TracerError(
        "load the BPF programs",
        cause=f"the loader's answer is malformed: {cause}",
        hint="please report this",
    )


def _no_answer(child: "subprocess.Popen[bytes]", log: IO[bytes]) -> TracerError:
    """Why it ended early, or was too slow."""
    try:
        status = child.wait(_END_SECONDS)  # only then is its output complete
    except subprocess.TimeoutExpired:
        return TracerError("load the BPF programs", cause="the loader does not answer")
    text = _read(log)
    # Without memory the compiler often crashes instead of saying so.
    limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    if _is_out_of_memory(text) or status == -signal.SIGKILL or (status < 0 and limited):
        return TracerError("load the BPF programs", cause="out of memory", hint=_MORE_MEMORY)
    how = f"signal {-status} ended the loader" if status < 0 else "the loader ended too early"
    last_line = f"; its last words: {text.splitlines()[-1]}" if text else ""
    return TracerError("load the BPF programs", cause=how + last_line, hint="please report this")


def _is_out_of_memory(text: str) -> bool:
    return any(words in text.lower() for words in _OUT_OF_MEMORY)


def _with_log(error: TracerError, log: str) -> TracerError:
    """Add the compiler's messages, or turn a lack of memory into the error that it is."""
    if not isinstance(error, ProgramError):
        return error
    if _is_out_of_memory(log):
        return TracerError(error.what, error.object, "out of memory", hint=_MORE_MEMORY)
    if "error:" in log:
        error.log = "\n".join(filter(None, (log, error.log)))
    return error


def _assemble(program: Program, report: Report, descriptors: list[int]) -> Loaded:
    remaining = iter(descriptors)
    calls = program.operations.calls
    functions = tuple(function.name for function in program.functions.functions)
    targets_of = {name: targets_of_call(program.plan.operations, name) for name in calls}
    targets_of |= {name: (name,) for name in functions}
    attached = {name for target in report.probes for name in target.split(",")}
    try:
        maps = {name: Map(next(remaining), layout) for name, layout in report.maps.items()}
        if maps.keys() != set(program.maps):
            raise ValueError(f"the maps are {sorted(maps)}")  # noqa: TRY301
    except (OSError, ValueError) as error:  # OSError: a descriptor is not that of a map
        _close(descriptors)
        raise ProgramError(
            "read the maps of the BPF programs", cause=str(error), hint="please report this"
        ) from error
    return Loaded(
        plan=program.plan,
        maps=maps,
        programs={name: next(remaining) for name in report.programs},
        calls=calls,
        functions=functions,
        absent=program.functions.absent,
        attached=frozenset(
            name for name, needed in targets_of.items() if attached.issuperset(needed)
        ),
        failures=report.failures,
        owner=os.getpid() if program.plan.functions == "kprobe" else None,
        descriptors=descriptors,
    )
