# SPDX-License-Identifier: MIT
"""The short-lived child that compiles, loads, attaches, hands all descriptors over, and exits.

bcc brings a compiler into its process, over 100 MB. This child runs for about a second. What must
stay (maps, programs, the links and events that hold the probes) goes to the parent over a Unix
socket as SCM_RIGHTS. When the parent ends, even by SIGKILL, the kernel closes those descriptors and
removes the probes.

This is the one module that imports bcc. It decides nothing: the parent's Order, as JSON on standard
input, says what to load and where to attach it (`tracer.loading.hand_over`).
"""

import json
import os
import socket
import sys
from typing import Any

from tracer.errors import ProgramError, TracerError, UnsupportedError
from tracer.loading.attachments import Attacher
from tracer.loading.hand_over import (
    MalformedError,
    Order,
    Report,
    answer_to_json,
    read_json,
)
from tracer.loading.instructions import put_casts
from tracer.loading.source import bpf_directory
from tracer.model.layout import Layout, MapLayout

__all__ = ["compile_program", "import_bcc", "main"]

_LOG_CHARACTERS = 1 << 16  # a message of 200 kB does not fit into the socket (EMSGSIZE)
_DESCRIPTORS_AT_ONCE = 128  # the kernel takes no more than 253 (SCM_MAX_FD)


def main(descriptor: int) -> None:
    """Carry out the order, answer on the Unix socket with this descriptor, end the process."""
    with socket.socket(fileno=descriptor) as parent:
        answer: Report | TracerError
        try:
            order = Order.from_json(read_json(sys.stdin.buffer.read()))
            answer, descriptors = _carry_out(order)
        except TracerError as error:
            answer, descriptors = error, []
        except MalformedError as error:
            cause = f"the order is malformed: {error}"
            answer = TracerError("load the BPF programs", cause=cause, hint="please report this")
            descriptors = []
        parent.send(json.dumps(answer_to_json(answer)).encode())
        for start in range(0, len(descriptors), _DESCRIPTORS_AT_ONCE):
            socket.send_fds(parent, [b"."], descriptors[start : start + _DESCRIPTORS_AT_ONCE])
    # Skip the interpreter's finalization, which takes longer than the work left to do.
    os._exit(0)


def import_bcc() -> Any:
    """Import bcc; UnsupportedError with a hint if it is missing or another project of that name."""
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
            continue  # its return probe failed; without that, entries would add up
        if (failure := attacher.attach(item)) is None:
            continue
        if item.is_required:
            error = ProgramError(
                "attach to", item.target, str(failure), hint="see lunatik-socket doctor"
            )
            log = "\n".join(getattr(failure, "__notes__", []))  # the verifier's
            error.log = log[-_LOG_CHARACTERS:]
            raise error
        failures[item.target] = str(failure)
        attacher.detach(item.target)  # a return probe alone is useless
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
    # For a per-CPU map, bcc's `Leaf` is an array of all CPUs' values, and `sLeaf` one value.
    return MapLayout(Layout.of(table.Key), Layout.of(getattr(table, "sLeaf", table.Leaf)))


def compile_program(bcc: Any, order: Order) -> Any:
    """bcc's object with the instructions changed and the tables filled, ready to load programs."""

    class Quiet(bcc.BPF):  # type: ignore[misc]
        """bcc attaches functions by their names and fails if one fails; this class does not."""

        def _trace_autoload(self) -> None:
            pass

    try:
        bpf = Quiet(text=order.text)
    except Exception as error:  # bcc raises no narrower type
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
