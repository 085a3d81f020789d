"""The C text that bcc compiles: the files of bpf/, the macros they ask for, the generated parts.

bcc rewrites map look-ups in its main text alone, not in included files; so the headers of ours
are put in place here, with #line directives that keep messages pointing at the right file.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from tracer import histogram
from tracer.architecture import architecture
from tracer.btf import KernelTypes
from tracer.config import Config
from tracer.errnos import ERRNO_SLOTS, KERNEL_FIRST_SLOT
from tracer.function_layer import COPY, Attachment, FunctionLayer, function_layer
from tracer.instructions import cast_macros
from tracer.mechanisms import works
from tracer.operations import OPERATIONS, TRANSPORTS, Bytes, Subject, SystemCall, system_calls

__all__ = [
    "EVENTS",
    "LOST_REASONS",
    "Program",
    "bpf_directory",
    "build",
    "operations_by",
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

Each is attached twice: the kernel skips a program that was preempted on that CPU, and to do these
twice does no harm.
"""

_RAW = "raw_tracepoint"
_THREADS_AT_LEAST = 4096

_SUBJECTS = {name: i for i, name in enumerate(["NONE", *Subject.__members__, "UNCOUNTED"])}
_BYTES = {name: i for i, name in enumerate([*Bytes.__members__, "UNCOUNTED"])}
"""The enumerations of tracer/operations.py as numbers, for the kernel side."""

_FIELDS = (
    ("task_struct", "pid"),
    ("task_struct", "tgid"),
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
    """All that the loader needs: a text, and where its functions go, in the order of attaching.

    `probes` and `functions` name the two layers' probes by their numbers in the maps; `absent` are
    the functions of the table that this kernel does not have. `system_calls` is the content of the
    map of that name: struct system_call by number; `mechanism` is how they are attached to.
    """

    text: str
    attachments: tuple[Attachment, ...]
    probes: tuple[str, ...]
    functions: tuple[str, ...]
    absent: tuple[str, ...]
    maps: tuple[str, ...]
    system_calls: dict[int, bytes]
    mechanism: str


def bpf_directory() -> Path:
    """The folder bpf/: beside this package in a checkout, inside it when installed."""
    inside = Path(__file__).with_name("bpf")
    return inside if inside.is_dir() else Path(__file__).parent.with_name("bpf")


def build(config: Config, mechanism: str) -> Program:
    """The program for this kernel and these settings.

    `mechanism` is that of the function layer, kprobe or fentry; "tracepoint" means that there is
    none, only the operation layer.
    """
    calls = [
        (OPERATIONS.index(operation), call)
        for operation, call in system_calls()
        if _is_here(call) and (not config.operations or operation.name in config.operations)
    ]
    with KernelTypes() as types:
        layer = function_layer(config, mechanism, types)
        macros = _macros(config, types) | {"PROBES": len(calls)} | dict(layer.macros)
        by = operations_by(types)
    if by == "kprobe_multi":
        macros["BY_FUNCTION"] = 1
    files = ["operations", *(["functions"] if layer.functions else []), "processes"]
    expanded: set[Path] = set()
    text = "\n".join(
        [
            *(f"#define {name} {value}" for name, value in macros.items()),
            f"enum event {{ {', '.join(f'EVENT_{name.upper()}' for name in EVENTS)} }};",
            *(_expand(bpf_directory() / f"{name}.bpf.c", expanded) for name in files),
            "",
        ]
    )
    table = _system_calls(calls, layer)
    return Program(
        text,
        _attachments(config, layer, by, table),
        tuple(call.name for _, call in calls),
        tuple(function.name for function in layer.functions),
        layer.absent,
        _maps(config, layer),
        table,
        by,
    )


def operations_by(types: KernelTypes) -> str:
    """The operation layer's mechanism here, "tracepoint" or "kprobe_multi".

    Tracepoints serve wherever their programs run undisturbed, and where there is nothing else.
    Since 7.0 or so they may be preempted, and until such a one runs again every call on its CPU
    goes by unseen. A kprobe's program is never preempted.
    """
    if types.function_id("trace_call_bpf_faultable") is None or not works("kprobe_multi"):
        return "tracepoint"
    names = ["socketpair", *(call.name for _, call in system_calls() if _is_here(call))]
    all_here = all(types.function_id(architecture().prefix + name) is not None for name in names)
    return "kprobe_multi" if all_here else "tracepoint"


def _is_here(call: SystemCall) -> bool:
    return call.name in architecture().numbers


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


def _system_calls(calls: list[tuple[int, SystemCall]], layer: FunctionLayer) -> dict[int, bytes]:
    """struct system_call by number (bpf/operations.bpf.c)."""
    numbers = architecture().numbers
    found = {}
    if layer.functions:
        # Not counted, but to be told from calls of the kernel's own (bpf/functions.bpf.c).
        new = [operation.name for operation in OPERATIONS].index("new")
        marked = bytes([_SUBJECTS["UNCOUNTED"], _BYTES["UNCOUNTED"], new, len(calls)])
        found = {numbers[name]: marked for name in ("socket", "socketpair")}
    for probe, (operation, call) in enumerate(calls):
        subject, moved = _SUBJECTS[call.subject.name], _BYTES[call.bytes.name]
        found[numbers[call.name]] = bytes([subject, moved, operation, probe])
    return found


def _attachments(
    config: Config, layer: FunctionLayer, by: str, table: Container[int]
) -> tuple[Attachment, ...]:
    """Processes first, then returns, then entries: what entered is then always seen returning.

    `table` has the numbers of the system calls that are traced.
    """
    own = architecture()
    functions = ",".join(own.prefix + name for name, n in own.numbers.items() if n in table)
    returned, entered = (
        (("kretprobe_multi", functions), ("kprobe_multi", functions))
        if by == "kprobe_multi"
        else ((_RAW, "sys_exit"), (_RAW, "sys_enter"))
    )
    following = [
        Attachment(_RAW, program, tracepoint, copy)
        for program, tracepoint in _FOLLOWING.items()
        for copy in ("", COPY)
        if program != "on_fork" or config.filter.follow_forks
    ]
    return (
        *following,
        Attachment(returned[0], "exit_system_call", returned[1]),
        Attachment(entered[0], "enter_system_call", entered[1]),
        *layer.attachments,
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
    return (
        macros
        | cast_macros(types)
        | _system_call_macros(types)
        | _filter_macros(config)
        | _label_macros(config)
    )


def _room_for_threads() -> int:
    # "0.42 0.23 0.17 3/1042 31415": three running of 1,042.
    there = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return max(_THREADS_AT_LEAST, 4 * there)


def _system_call_macros(types: KernelTypes) -> dict[str, object]:
    own = architecture()
    arguments: dict[str, object] = {
        f"ARGUMENT_{i}": types.offset_of("pt_regs", field) + extra
        for i, (field, extra) in enumerate(own.arguments, 1)
    }
    field, bit = own.compat
    return (
        arguments
        | {f"SUBJECT_{name}": number for name, number in _SUBJECTS.items()}
        | {f"BYTES_{name}": number for name, number in _BYTES.items()}
        | {
            "SYSTEM_CALL_NUMBERS": max(own.numbers.values()) + 1,
            "SYSTEM_CALL_NUMBER": types.offset_of("pt_regs", own.number),
            "THREAD_INFO_COMPAT": types.offset_of("thread_info", field),
            "COMPAT_BIT": bit,
        }
    )


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
