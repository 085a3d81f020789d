# SPDX-License-Identifier: MIT
"""The function layer: what the two programs of bpf/functions.bpf.c need to know of each function.

They serve all functions and both mechanisms; what differs between kprobes and fentry is where the
arguments, the return value and the stack pointer are.
"""

from dataclasses import dataclass
from typing import ClassVar

from tracer.kernel.btf import KernelTypes
from tracer.kernel.capabilities import kernel_preempts
from tracer.loading.attachments import COPY, Attachment
from tracer.loading.instructions import constant_macros
from tracer.model.config import Config
from tracer.model.operations import FUNCTIONS, PATHS, TRANSPORTS, Argument, Function

__all__ = ["FUNCTION_PROGRAMS", "FunctionLayer", "function_layer"]

_KINDS = {"kprobe": ("kretprobe", "kprobe"), "fentry": ("fexit", "fentry")}
FUNCTION_PROGRAMS = _ENTERED, _RETURNED = "function_entered", "function_returned"
"""Those of bpf/functions.bpf.c."""

_ARGUMENTS = {argument: i for i, argument in enumerate(Argument)}
_RETURNS = ("STATUS", "BYTES", "NOTHING")
_PATH_OF_SOCKET = len(PATHS)


@dataclass(frozen=True, slots=True)
class FunctionLayer:
    """The functions by number, those that this kernel lacks, where to attach, the macros."""

    MAPS: ClassVar = ("function_cells", "function_probes")

    functions: tuple[Function, ...] = ()
    absent: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    macros: tuple[tuple[str, object], ...] = ()


def function_layer(config: Config, mechanism: str | None, types: KernelTypes) -> FunctionLayer:
    """The layer by this mechanism; an empty one for None."""
    if mechanism is None:
        return FunctionLayer()
    wanted = [function for function in FUNCTIONS if _is_wanted(function, config)]
    here = [function for function in wanted if types.function_id(function.name) is not None]
    returned, entered = _KINDS[mechanism]
    # A kprobe's program is never preempted.
    copies = ("", COPY) if mechanism == "fentry" and kernel_preempts() else ("",)
    return FunctionLayer(
        functions=tuple(here),
        absent=tuple(function.name for function in wanted if function not in here),
        attachments=tuple(
            Attachment(
                kind,
                program,
                function.name,
                copy,
                types.function_id(function.name) or 0,
                (*_constants(number, function, types), ("IS_COPY", bool(copy))),
            )
            for kind, program in ((returned, _RETURNED), (entered, _ENTERED))
            for number, function in enumerate(here)
            for copy in copies
        ),
        macros=(
            ("FUNCTION_LAYER", 1),
            ("FUNCTIONS", len(here)),
            *([("BY_FENTRY", 1)] * (mechanism == "fentry")),
            *([("HAVE_COPIES", 1)] * (len(copies) > 1)),
            *((f"ARGUMENT_{argument.name}", i) for argument, i in _ARGUMENTS.items()),
            *((f"RETURNS_{name}", i) for i, name in enumerate(_RETURNS)),
            ("PATH_OF_SOCKET", _PATH_OF_SOCKET),
            *constant_macros().items(),
        ),
    )


def _is_wanted(function: Function, config: Config) -> bool:
    chosen = config.operations
    return not chosen or function.operation is None or function.operation in chosen


def _constants(number: int, function: Function, types: KernelTypes) -> tuple[tuple[str, int], ...]:
    returns = "NOTHING" if function.returns_nothing else "STATUS"
    return (
        ("NUMBER", number),
        ("ARGUMENT", _ARGUMENTS[function.argument]),
        ("SLOTS", types.argument_slots(function.name) or 0),
        ("RETURNS", _RETURNS.index("BYTES" if function.returns_bytes else returns)),
        ("PATH", _PATH_OF_SOCKET if function.serves_user_too else PATHS.index("kernel")),
        ("TRANSPORT", TRANSPORTS.index(function.transport or "other")),
        # socket(2) calls these too, and is counted as what it is.
        ("SKIPS_NEW", function.name in ("sock_create", "sock_release")),
    )
