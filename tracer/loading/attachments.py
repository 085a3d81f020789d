# SPDX-License-Identifier: MIT
"""A program and where it attaches: the layers ask for it, the loader does it."""

from dataclasses import dataclass

__all__ = ["COPY", "Attachment"]

COPY = "_again"
"""What ends the name of a program's copy at the same target.

While a program is preempted, the kernel skips it on that CPU, but not its copy.
"""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program at one target in the kernel, or at several.

    `kind` is raw_tracepoint, kprobe, kretprobe, fentry, fexit, kprobe_multi or kretprobe_multi;
    `target` is the name of a tracepoint or of a function, and `type_id` the function's BTF id. For
    the last two kinds `target` is the names of all functions, with commas. `constants` are put into
    the program (tracer/loading/instructions.py). `copy` is `COPY` or nothing.
    """

    kind: str
    program: str
    target: str
    copy: str = ""
    type_id: int = 0
    constants: tuple[tuple[str, int], ...] = ()
