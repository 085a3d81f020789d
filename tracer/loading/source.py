# SPDX-License-Identifier: MIT
"""The C text that bcc compiles: generated macros and enumerations, then the files of bpf/.

bcc rewrites map look-ups in its main text only, not in included files. So our own headers are put
in place of their #include lines here, with #line directives, so that the compiler's messages name
the right file and line.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tracer.kernel.btf import KernelTypes
from tracer.kernel.cgroups import cgroup_directory, path_in_kernel
from tracer.kernel.maps import possible_cpus
from tracer.loading.attachments import COPY, Attachment
from tracer.loading.function_layer import FUNCTION_PATHS, FunctionLayer, function_layer
from tracer.loading.instructions import cast_macros
from tracer.loading.operation_layer import OperationLayer, operation_layer
from tracer.loading.plan import Plan
from tracer.model import histogram
from tracer.model.config import Config, Filter
from tracer.model.errnos import ERRNO_SLOTS, KERNEL_FIRST, KERNEL_FIRST_SLOT
from tracer.model.operations import (
    OPERATIONS,
    PATHS,
    TRANSPORTS,
    Argument,
    Bytes,
    Returns,
    Subject,
)
from tracer.model.thread_names import Automaton, automaton, is_pattern

__all__ = [
    "EVENTS",
    "LOST_REASONS",
    "Program",
    "bpf_directory",
    "build",
    "enumeration",
]

Table = dict[int, dict[str, int]]

LOST_REASONS = (
    "start_map_full",
    "return_without_entry",
    "return_not_seen",
)
"""Why a call may be missing from the counts."""

EVENTS = (
    *LOST_REASONS,
    "other_label",
    "thread_added",
    "thread_removed",
    "function_thread_added",
    "function_thread_removed",
)
"""What the kernel side counts besides calls, in the order of its map `events`."""

_ENUMERATIONS: dict[str, Iterable[str] | type[IntEnum]] = {
    "event": EVENTS,
    "operation": [operation.name for operation in OPERATIONS],
    "transport": TRANSPORTS,
    "path": FUNCTION_PATHS,
    "subject": Subject,
    "bytes": Bytes,
    "argument": Argument,
    "returns": Returns,
}
"""Enums of the C text, by the prefix of their names; see `enumeration`."""

_FOLLOWING = {
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
    "on_thread_end": "sched_process_exit",
}
"""The programs that follow processes, and their tracepoints (bpf/processes.bpf.c)."""

_NOTING_PORTS = {
    "on_socket_state": "inet_sock_set_state",
    "on_socket_destroyed": "tcp_destroy_sock",
}
"""The programs that note the service's port of each TCP socket (bpf/ports.bpf.c)."""

_THREADS_AT_LEAST = 4096

_PID_MAX_LIMIT = 4 * 1024 * 1024
"""The kernel's own limit of pid_max on 64-bit machines (include/linux/threads.h)."""

_CELLS_OF_VALUE = len(OPERATIONS)  # each is as a rule called on one or two transports
_CGROUP_PATH_SIZE = 1024  # with its end; the kernel's TRACE_CGROUP_PATH_LEN

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

_FIELDS_OF_CGROUPS = (
    ("cgroup", "root"),
    ("cgroup", "kn"),
    ("cgroup_root", "hierarchy_id"),
    ("kernfs_node", "id"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """All that the loader needs.

    `text` is C, `attachments` are in the order of attaching, `maps` are those that the tracer reads
    or writes, `tables` the content of those that the loader fills, by key and field. `cast` is the
    BTF id of the kernel's function for casts if the text uses it.
    """

    plan: Plan
    text: str
    cast: int | None
    attachments: tuple[Attachment, ...]
    operations: OperationLayer
    functions: FunctionLayer
    maps: tuple[str, ...]
    tables: dict[str, Table]


def bpf_directory() -> Path:
    """The folder bpf/: beside this package in a checkout, inside it when installed."""
    package = Path(__file__).parents[1]
    inside = package / "bpf"
    return inside if inside.is_dir() else package.with_name("bpf")


def build(config: Config, plan: Plan, types: KernelTypes) -> Program:
    """The program for this kernel and these settings, by this plan."""
    functions = function_layer(config, plan.functions, types)
    operations = operation_layer(
        config, plan.operations, types, with_functions=bool(functions.functions)
    )
    of_cgroup = _cgroup_macros(config, types)
    macros = (
        _macros(config, types)
        | of_cgroup
        | cast_macros(plan.casts)
        | dict(operations.macros)
        | dict(functions.macros)
    )
    following = tuple(_following(config, with_copies=plan.copies))
    files = ["operations", *(["functions"] if functions.functions else []), "processes"]
    if "CGROUP_LEVEL" in of_cgroup:
        files.append("cgroups")
        following += (Attachment("raw_tracepoint", "on_cgroup_made", "cgroup_mkdir"),)
    if config.label == "port":
        files.append("ports")
        following += tuple(
            Attachment("raw_tracepoint", program, tracepoint)
            for program, tracepoint in _NOTING_PORTS.items()
        )
    expanded: set[Path] = set()
    text = "\n".join(
        [
            *(f"#define {name} {value}" for name, value in macros.items()),
            *(enumeration(name, members) for name, members in _ENUMERATIONS.items()),
            *(_expand(bpf_directory() / f"{name}.bpf.c", expanded) for name in files),
            "",
        ]
    )
    return Program(
        plan,
        text,
        plan.casts.function if plan.casts else None,
        # Processes first: which of them are followed must be known before their calls are seen.
        (*following, *operations.attachments, *functions.attachments),
        operations,
        functions,
        _maps(config, functions),
        _filled_tables(config, operations),
    )


def enumeration(name: str, members: Iterable[str] | type[IntEnum]) -> str:
    """Return a C enum: `enumeration("path", ["user"])` is "enum { PATH_USER = 0 };".

    The numbers are those of an IntEnum, or the positions in a list of names. The enum itself has no
    name, since the kernel has tags like `path` of its own.
    """
    if isinstance(members, type):
        numbers = [(member.name, member.value) for member in members]
    else:
        numbers = [(member, number) for number, member in enumerate(members)]
    body = ", ".join(f"{name}_{member}".upper() + f" = {number}" for member, number in numbers)
    return f"enum {{ {body} }};"


def _following(config: Config, *, with_copies: bool) -> Iterator[Attachment]:
    """The programs that follow processes, each twice where the kernel may preempt them.

    If a fork is missed, the child is never followed. If an end is missed, its process id stays
    followed. Neither is corrected later. Running such a program twice does no harm. On 7.2, as
    Debian configures it (lazy preemption), 20,000 forks and 20,000 ends in four processes on
    two CPUs were missed 19 and 37 times by a program without a copy.
    """
    for program, tracepoint in _FOLLOWING.items():
        if program != "on_fork" or config.filter.follow_forks:
            yield Attachment("raw_tracepoint", program, tracepoint)
            if with_copies:
                yield Attachment("raw_tracepoint", program, tracepoint, COPY)


def _maps(config: Config, layer: FunctionLayer) -> tuple[str, ...]:
    """The maps that the tracer reads or writes; which ones exist depends on the settings."""
    return (
        "cells",
        "probes",
        "events",
        "calls",
        "threads",
        "armed",
        *(layer.MAPS if layer.functions else ()),
        *(("labelled_cells", "label_values", "grace_period") if config.label is not None else ()),
        *(["listening"] * (config.label == "port")),
        *(["followed"] * bool(config.filter.pids)),
        *(["cgroups"] * (config.filter.cgroup is not None)),
    )


def _macros(config: Config, types: KernelTypes) -> dict[str, object]:
    macros: dict[str, object] = {
        "TRANSPORTS": len(TRANSPORTS),
        "PATHS": len(PATHS),
        "CELLS": len(OPERATIONS) * len(TRANSPORTS),
        "EVENTS": len(EVENTS),
        "ERRNO_SLOTS": ERRNO_SLOTS,
        "ERRNO_KERNEL_FIRST": KERNEL_FIRST,
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
    if config.in_flight == "hash":
        macros["IN_FLIGHT_BY_HASH"] = 1
    return macros | _filter_macros(config) | _label_macros(config, types)


def _room_for_threads() -> int:
    # "0.42 0.23 0.17 3/1042 31415": three running of 1,042.
    there = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return max(_THREADS_AT_LEAST, 4 * there)


def _filter_macros(config: Config) -> dict[str, object]:
    chosen = config.filter
    macros: dict[str, object] = {}
    if chosen.pids:
        # Not by pid_max as it is now: it may be raised while tracing.
        macros |= {"FILTER_PIDS": 1, "FOLLOWED_ROWS": _PID_MAX_LIMIT // 64}
    if chosen.follow_forks:
        macros["FOLLOW_FORKS"] = 1
    if config.tracer_pid:
        macros["TRACER_TGID"] = config.tracer_pid
    if chosen.comms:
        tests = [_comm_test(comm) for comm in chosen.comms if not is_pattern(comm)]
        macros |= {"FILTER_COMMS": 1, "COMM_MATCHES(first, last)": " || ".join(tests) or "0"}
    if patterns := _patterns(chosen):
        macros |= {
            "COMM_STATES_START": f"{patterns.start:#x}ULL",
            "COMM_STATES_ACCEPTING": f"{patterns.accepting:#x}ULL",
            "COMM_STATES_STAYING": f"{patterns.staying:#x}ULL",
        }
    return macros


def _cgroup_macros(config: Config, types: KernelTypes) -> dict[str, object]:
    """Macros for the filter by cgroup, and for the program that sees it made again if possible."""
    if config.filter.cgroup is None:
        return {}
    macros: dict[str, object] = {"FILTER_CGROUP": 1}
    path = path_in_kernel(cgroup_directory(config.filter.cgroup))
    if path in (None, "/") or len(os.fsencode(path)) >= _CGROUP_PATH_SIZE:
        return macros
    for struct, field in _FIELDS_OF_CGROUPS:
        macros[f"{struct}_{field}".upper()] = types.offset_of(struct, field)
    return (
        macros
        | _ancestor_macros(types)
        | {
            "CGROUP_LEVEL": path.count("/"),
            "CGROUP_PATH_SIZE": len(os.fsencode(path)) + 1,
            "CGROUP_PATH_MATCHES(words)": _words_test(os.fsencode(path) + b"\0"),
        }
    )


def _ancestor_macros(types: KernelTypes) -> dict[str, object]:
    """Where a cgroup has the ids of those it is in; nothing where a helper gives them."""
    ids = types.offset_if_any("cgroup", "ancestor_ids")
    if ids is None:
        return {}
    return {
        "TASK_STRUCT_CGROUPS": types.offset_of("task_struct", "cgroups"),
        "CSS_SET_DFL_CGRP": types.offset_of("css_set", "dfl_cgrp"),
        "CGROUP_LEVEL_OF": types.offset_of("cgroup", "level"),
        "CGROUP_ANCESTOR_IDS": ids,
    }


def _words_test(text: bytes) -> str:
    """A C test whether `words`, an array of u64, begins with these bytes."""
    tests = []
    for start in range(0, len(text), 8):
        part = text[start : start + 8]
        mask = int.from_bytes(b"\xff" * len(part), "little")
        number = int.from_bytes(part, "little")
        tests.append(f"((words)[{start // 8}] & {mask:#x}ULL) == {number:#x}ULL")
    return " && ".join(tests)


def _patterns(chosen: Filter) -> Automaton | None:
    """The automaton for the thread names that are patterns, if there are any."""
    patterns = [comm for comm in chosen.comms if is_pattern(comm)]
    return automaton(patterns) if patterns else None


def _filled_tables(config: Config, operations: OperationLayer) -> dict[str, Table]:
    tables: dict[str, Table] = {"system_calls": operations.table}
    if patterns := _patterns(config.filter):
        tables["comm_bytes"] = {
            byte: {"moving": states} for byte, states in enumerate(patterns.moving) if states
        }
    return tables


def _comm_test(comm: str) -> str:
    padded = comm.encode()[:15].ljust(16, b"\0")
    first, last = (int.from_bytes(half, "little") for half in (padded[:8], padded[8:]))
    return f"((first) == {first:#x}ULL && (last) == {last:#x}ULL)"


def _label_macros(config: Config, types: KernelTypes) -> dict[str, object]:
    if config.label is None:
        return {}
    return {
        "LABELLED": 1,
        f"LABEL_{config.label.upper()}": 1,
        "LABEL_VALUES": config.label_values,
        **_cells_of_label(config, on_demand=types.function_id("bpf_mem_alloc_init") is not None),
    }


def _cells_of_label(config: Config, *, on_demand: bool) -> dict[str, object]:
    """Room for several cells of each value; for one where it takes memory in advance.

    A cell takes some 3 kB. There is one for each CPU that makes such calls.
    """
    room = config.label_values * possible_cpus()
    if not on_demand:
        return {"LABELLED_CELLS": room}
    return {
        "LABELLED_CELLS": room * _CELLS_OF_VALUE,
        "LABELLED_CELLS_ON_DEMAND": 1,
    }


def _expand(path: Path, seen: set[Path]) -> str:
    """The file's text, with our own headers in place of their #include lines, each once."""
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
