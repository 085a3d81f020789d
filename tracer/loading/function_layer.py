# SPDX-License-Identifier: MIT
"""The function layer: what the two programs of bpf/functions.bpf.c need to know of each function.

The same two programs serve all functions and both mechanisms. Kprobes and fentry differ in where
the arguments, the return value and the stack pointer are.
"""

from dataclasses import dataclass
from typing import ClassVar

from tracer.kernel.btf import KernelTypes
from tracer.loading.attachments import Attachment
from tracer.loading.instructions import constant_macros
from tracer.model.config import Config
from tracer.model.operations import FUNCTIONS, PATHS, TRANSPORTS, Function

__all__ = ["FUNCTION_PATHS", "FunctionLayer", "function_layer"]

_KINDS = {"kprobe": ("kretprobe", "kprobe"), "fentry": ("fexit", "fentry")}
_ENTERED, _RETURNED = "function_entered", "function_returned"
"""The programs of bpf/functions.bpf.c."""

FUNCTION_PATHS = (*PATHS, "of_socket")
"""How a function's calls get their path: always the same one, or that of the socket."""


@dataclass(frozen=True, slots=True)
class FunctionLayer:
    """What is traced, and what the C text and the loader need for it.

    `functions` are in the order of their numbers; `absent` are the names of those that this kernel
    lacks.
    """

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
    return FunctionLayer(
        functions=tuple(here),
        absent=tuple(function.name for function in wanted if function not in here),
        attachments=tuple(
            Attachment(
                kind,
                program,
                function.name,
                type_id=types.function_id(function.name) or 0,
                constants=_constants(number, function, here, types),
            )
            for kind, program in ((returned, _RETURNED), (entered, _ENTERED))
            for number, function in enumerate(here)
        ),
        macros=(
            ("FUNCTION_LAYER", 1),
            ("FUNCTIONS", len(here)),
            *([("BY_FENTRY", 1)] * (mechanism == "fentry")),
            *constant_macros().items(),
        ),
    )


def _is_wanted(function: Function, config: Config) -> bool:
    chosen = config.operations
    return not chosen or function.operation is None or function.operation in chosen


def _constants(
    number: int, function: Function, here: list[Function], types: KernelTypes
) -> tuple[tuple[str, int], ...]:
    names = [other.name for other in here]
    path = "of_socket" if function.serves_user_too else "kernel"
    return (
        ("NUMBER", number),
        ("ARGUMENT", function.argument),
        ("SLOTS", types.argument_slots(function.name) or 0),
        ("RETURNS", function.returns),
        ("PATH", FUNCTION_PATHS.index(path)),
        ("TRANSPORT", TRANSPORTS.index(function.transport or "other")),
        # socket(2) calls these too; it is counted as a system call instead.
        ("SKIPS_NEW", int(function.name in ("sock_create", "sock_release"))),
        # One more than that function's number; 0 for none.
        ("INSIDE", names.index(function.inside) + 1 if function.inside in names else 0),
    )
