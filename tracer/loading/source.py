# SPDX-License-Identifier: MIT
"""The C text that bcc compiles: the files of bpf/, the macros they ask for, the generated parts.

bcc rewrites map look-ups in its main text alone, not in included files; so the headers of ours
are put in place here, with #line directives that keep messages pointing at the right file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracer.kernel.btf import KernelTypes
from tracer.loading.attachments import COPY, Attachment
from tracer.loading.function_layer import FunctionLayer, function_layer
from tracer.loading.instructions import cast_macros
from tracer.loading.operation_layer import OperationLayer, operation_layer
from tracer.model import histogram
from tracer.model.config import Config
from tracer.model.errnos import ERRNO_SLOTS, KERNEL_FIRST_SLOT
from tracer.model.operations import OPERATIONS, TRANSPORTS

__all__ = [
    "EVENTS",
    "LOST_REASONS",
    "Program",
    "bpf_directory",
    "build",
]

LOST_REASONS = (
    "start_map_full",
    "aggregate_map_full",
    "return_without_entry",
    "return_not_seen",
)
"""Why a call may be missing from the counts."""

EVENTS = (
    *LOST_REASONS,
    "thread_added",
    "thread_removed",
    "function_thread_added",
    "function_thread_removed",
)
"""What the kernel side counts besides calls, in the order of its map `events`."""

_FOLLOWING = {
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
    "on_thread_end": "sched_process_exit",
}
"""The programs that follow processes, and their tracepoints (bpf/processes.bpf.c).

Each has a copy, since to do these twice does no harm.
"""

_THREADS_AT_LEAST = 4096

_FIELDS = (
    ("task_struct", "pid"),
    ("task_struct", "tgid"),
    ("task_struct", "stack"),
    ("task_struct", "thread_info"),
    ("task_struct", "files"),
    ("task_struct", "signal"),
    ("task_struct", "flags"),
    ("signal_struct", "live"),
    ("files_struct", "fdt"),
    ("fdtable", "fd"),
    ("fdtable", "max_fds"),
    ("file", "f_inode"),
    ("file", "f_op"),
    ("file", "private_data"),
    ("inode", "i_mode"),
    ("socket", "sk"),
    ("socket", "file"),
    ("socket", "ops"),
    ("sock", "sk_protocol"),
    ("sock", "sk_type"),
    ("sock", "sk_socket"),
    ("sock_common", "skc_family"),
    ("sock_common", "skc_num"),
    ("sock_common", "skc_dport"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """All that the loader needs.

    A text, where its programs go in the order of attaching, and the maps that the tracer uses.
    `cast` is the kernel's function for casts among its types, if the text calls for it.
    """

    text: str
    cast: int | None
    attachments: tuple[Attachment, ...]
    operations: OperationLayer
    functions: FunctionLayer
    maps: tuple[str, ...]


def bpf_directory() -> Path:
    """The folder bpf/: beside this package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
    inside = package / "bpf"
    return inside if inside.is_dir() else package.with_name("bpf")


def build(config: Config, mechanism: str) -> Program:
    """The program for this kernel and these settings.

    `mechanism` is that of the function layer, kprobe or fentry; "tracepoint" means that there is
    none, only the operation layer.
    """
    with KernelTypes() as types:
        functions = function_layer(config, mechanism, types)
        operations = operation_layer(config, types, with_functions=bool(functions.functions))
        casts = cast_macros(types)
        macros = _macros(config, types) | casts | dict(operations.macros) | dict(functions.macros)
    files = ["operations", *(["functions"] if functions.functions else []), "processes"]
    expanded: set[Path] = set()
    text = "\n".join(
        [
            *(f"#define {name} {value}" for name, value in macros.items()),
            f"enum event {{ {', '.join(f'EVENT_{name.upper()}' for name in EVENTS)} }};",
            *(_expand(bpf_directory() / f"{name}.bpf.c", expanded) for name in files),
            "",
        ]
    )
    return Program(
        text,
        casts.get("HAVE_CAST"),
        # Processes first: whoever enters is known to belong, or not to.
        (*_following(config), *operations.attachments, *functions.attachments),
        operations,
        functions,
        _maps(config, functions),
    )


def _following(config: Config) -> Iterator[Attachment]:
    for program, tracepoint in _FOLLOWING.items():
        if program != "on_fork" or config.filter.follow_forks:
            yield Attachment("raw_tracepoint", program, tracepoint)
            yield Attachment("raw_tracepoint", program, tracepoint, COPY)


def _maps(config: Config, layer: FunctionLayer) -> tuple[str, ...]:
    """Those that the tracer reads or writes, as the settings have them compiled in."""
    return (
        "cells",
        "probes",
        "events",
        "calls",
        "threads",
        "armed",
        *(layer.MAPS if layer.functions else ()),
        *(["labelled_cells"] * (config.label is not None)),
        *(["followed"] * bool(config.filter.pids)),
        *(["cgroups"] * (config.filter.cgroup is not None)),
    )


def _macros(config: Config, types: KernelTypes) -> dict[str, object]:
    macros: dict[str, object] = {
        "TRANSPORTS": len(TRANSPORTS),
        "CELLS": len(OPERATIONS) * len(TRANSPORTS),
        "EVENTS": len(EVENTS),
        "ERRNO_SLOTS": ERRNO_SLOTS,
        "ERRNO_KERNEL_FIRST_SLOT": KERNEL_FIRST_SLOT,
        "SLOTS": histogram.SLOTS,
        "SLOT_OVERFLOW": histogram.OVERFLOW,
        "SLOT_MIN_EXPONENT": f"({histogram.MIN_EXPONENT})",
        "THREADS": config.threads or _room_for_threads(),
    }
    for struct, field in _FIELDS:
        macros[f"{struct}_{field}".upper()] = types.offset_of(struct, field)
    if types.argument_slots("bpf_get_current_task_btf") is not None:  # 5.11
        macros["HAVE_TASK_BTF"] = 1
    for number, operation in enumerate(OPERATIONS):
        macros[f"OPERATION_{operation.name.upper()}"] = number
    if config.in_flight == "hash":
        macros["IN_FLIGHT_BY_HASH"] = 1
    return macros | _filter_macros(config) | _label_macros(config)


def _room_for_threads() -> int:
    # "0.42 0.23 0.17 3/1042 31415": three running of 1,042.
    there = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return max(_THREADS_AT_LEAST, 4 * there)


def _filter_macros(config: Config) -> dict[str, object]:
    chosen = config.filter
    macros: dict[str, object] = {}
    if chosen.pids:
        pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
        macros |= {"FILTER_PIDS": 1, "FOLLOWED_ROWS": pid_max // 64 + 1}
    if chosen.follow_forks:
        macros["FOLLOW_FORKS"] = 1
    if config.tracer_pid:
        macros["TRACER_TGID"] = config.tracer_pid
    if chosen.comms:
        tests = " || ".join(_comm_test(comm) for comm in chosen.comms)
        macros |= {"FILTER_COMMS": 1, "COMM_MATCHES(first, last)": tests}
    if chosen.cgroup:
        macros["FILTER_CGROUP"] = 1
    return macros


def _comm_test(comm: str) -> str:
    padded = comm.encode()[:15].ljust(16, b"\0")
    first, last = (int.from_bytes(half, "little") for half in (padded[:8], padded[8:]))
    return f"((first) == {first:#x}ULL && (last) == {last:#x}ULL)"


def _label_macros(config: Config) -> dict[str, object]:
    if config.label is None:
        return {}
    return {
        "LABELLED": 1,
        f"LABEL_{config.label.upper()}": 1,
        "LABELLED_CELLS": config.label_cells,
    }


def _expand(path: Path, seen: set[Path]) -> str:
    """The file's text with the headers of ours in place of their #include lines, each once."""
    seen.add(path)
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith('#include "'):
            header = path.with_name(line.split('"')[1])
            if header not in seen:
                lines += [_expand(header, seen), f'#line {number + 1} "{path.name}"']
        elif line != "#pragma once":
            lines.append(line)
        else:
            lines.append("")
    return "\n".join(lines)
