"""The function layer's generated part: an entry and a return for each function, by one mechanism.

The bodies are in bpf/functions.bpf.c, once. What differs between kprobes and fentry is where the
arguments, the return value and the stack pointer are, and what the programs are called.
"""

from dataclasses import dataclass
from typing import ClassVar

from tracer.btf import KernelTypes
from tracer.config import Config
from tracer.operations import FUNCTIONS, Argument, Function

__all__ = ["FunctionLayer", "function_layer"]

_KINDS = {"kprobe": ("kretprobe", "kprobe"), "fentry": ("fexit", "fentry")}

# bcc calls fentry "kfunc", and tells from a program's name what it is and where it goes. The naming
# has changed (0.26 has no "vmlinux" in it): its macros know, and the loader finds out.
_HEADS = {
    "kprobe": "int kprobe_{}(struct pt_regs *ctx)",
    "kretprobe": "int kretprobe_{}(struct pt_regs *ctx)",
    "fentry": "KFUNC_PROBE({})",
    "fexit": "KRETFUNC_PROBE({})",
}
_PREFIXES = {
    "kprobe": "kprobe_",
    "kretprobe": "kretprobe_",
    "fentry": "kfunc__",
    "fexit": "kretfunc__",
}


@dataclass(frozen=True, slots=True)
class FunctionLayer:
    """What is generated: the functions by number, the C texts, the macros.

    `kinds` are the kinds of attachment, returns before entries; `absent` the functions that this
    kernel lacks.
    """

    MAPS: ClassVar = ("function_cells", "function_probes")

    kinds: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    absent: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def macros(self) -> dict[str, object]:
        """For the C text."""
        if not self.functions:
            return {}
        return {"FUNCTION_LAYER": 1, "FUNCTIONS": len(self.functions)}

    def program_name(self, kind: str, function: Function) -> str:
        """What the program is called, or, by fentry and fexit, how its name begins."""
        return _PREFIXES[kind] + function.name * (kind in ("kprobe", "kretprobe"))


def function_layer(config: Config, mechanism: str, types: KernelTypes) -> FunctionLayer:
    """The layer by this mechanism; an empty one for "tracepoint"."""
    if mechanism not in _KINDS:
        return FunctionLayer()
    counts = {f.name: types.argument_slots(f.name) for f in FUNCTIONS if _wanted(f, config)}
    functions = tuple(f for f in FUNCTIONS if counts.get(f.name) is not None)
    returned, entered = _KINDS[mechanism]
    texts = []
    for number, function in enumerate(functions):
        count = counts[function.name] or 0
        texts += [
            _return_text(number, function, _Source(returned, count)),
            _entry_text(number, function, _Source(entered, count)),
        ]
    return FunctionLayer(
        kinds=(returned, entered),
        functions=functions,
        absent=tuple(name for name, count in counts.items() if count is None),
        texts=tuple(texts),
    )


def _wanted(function: Function, config: Config) -> bool:
    chosen = config.operations
    return not chosen or function.operation is None or function.operation in chosen


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a program of this kind finds what the body needs, as C expressions."""

    kind: str
    argument_slots: int

    @property
    def is_kprobe(self) -> bool:
        return self.kind in ("kprobe", "kretprobe")

    def argument(self, number: int) -> str:
        return f"PT_REGS_PARM{number + 1}(ctx)" if self.is_kprobe else f"ctx[{number}]"

    @property
    def returned(self) -> str:
        # Behind the arguments; all these functions return int, whose upper half is anything.
        place = "PT_REGS_RC(ctx)" if self.is_kprobe else f"ctx[{self.argument_slots}]"
        return f"(s32){place}"

    @property
    def stack_pointer(self) -> str:
        return "PT_REGS_SP(ctx)" if self.is_kprobe else "0"


def _head(function: Function, source: _Source) -> list[str]:
    return [
        _HEADS[source.kind].format(function.name),
        "{",
        "\tu64 pid_tgid = bpf_get_current_pid_tgid();",
    ]


def _skip(function: Function) -> str:
    """socket(2) calls some of the functions too, and is counted as what it is."""
    if function.name in ("sock_create", "sock_release"):
        return " || is_in_socket_call(pid_tgid)"
    return ""


def _entry_text(number: int, function: Function, source: _Source) -> str:
    first, second, third, fourth = (f"{source.argument(i)}" for i in range(4))
    describe = {
        Argument.SOCKET: f"frame_of_socket(&frame, (void *){first})",
        Argument.SOCK: f"frame_of_sock(&frame, (void *){first})",
        Argument.FILE: f"frame_of_inode_file(&frame, (void *){second})",
        Argument.NEW: f"frame_of_new(&frame, {first}, {second}, {third})",
        Argument.NEW_IN_NAMESPACE: f"frame_of_new(&frame, {second}, {third}, {fourth})",
    }[function.argument]
    return "\n".join(
        [
            *_head(function, source),
            f"\tstruct frame frame = {{.function = {number}, "
            f".stack_pointer = {source.stack_pointer}}};",
            "",
            f"\tif (!is_traced(pid_tgid){_skip(function)})",
            "\t\treturn 0;",
            f"\t{describe};",
            *([] if function.serves_user_too else ["\tframe.path = PATH_KERNEL;"]),
            "\tenter_function(&frame, pid_tgid);",
            "\treturn 0;",
            "}",
        ]
    )


def _return_text(number: int, function: Function, source: _Source) -> str:
    returned = "0" if function.returns_nothing else source.returned
    moved = "ret > 0 ? ret : 0" if function.returns_bytes else "0"
    return "\n".join(
        [
            *_head(function, source),
            f"\ts64 ret = {returned};",
            "",
            *(["\tif (" + _skip(function)[4:] + ")", "\t\treturn 0;"] if _skip(function) else []),
            f"\texit_function({number}, ret, {moved}, {source.stack_pointer}, pid_tgid);",
            *(["\tforget_if_ending(pid_tgid);"] if function.argument is Argument.FILE else []),
            "\treturn 0;",
            "}",
        ]
    )
