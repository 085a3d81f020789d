# SPDX-License-Identifier: MIT
"""A program at a place in the kernel: what the layers ask for, and the loader does."""

from dataclasses import dataclass

__all__ = ["COPY", "Attachment"]

COPY = "_again"
"""What ends the name of a program's copy, at the same place.

The kernel skips a program where it is under way on that CPU already, preempted; not its copy.
"""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program at one place in the kernel, or at several.

    `kind` is raw_tracepoint, kprobe, kretprobe, fentry, fexit, kprobe_multi or kretprobe_multi;
    `target` is the name of a tracepoint or of a function, and `type_id` the function's BTF id;
    for the last two kinds all functions' names, with commas. `constants` are those that the program
    is to have (tracer/loading/instructions.py). `copy` is `COPY` or nothing.
    """

    kind: str
    program: str
    target: str
    copy: str = ""
    type_id: int = 0
    constants: tuple[tuple[str, int], ...] = ()
