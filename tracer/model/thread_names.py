# SPDX-License-Identifier: MIT
"""Patterns of thread names, as an automaton that the kernel side runs too (bpf/filter.h).

The patterns are those of a shell: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`. A name is at most 15 bytes.
The automaton is that of Baeza-Yates and Gonnet ("A New Approach to Text Searching", 1992): each
state is a bit of one word, for "so many elements of the pattern have matched". The states of all
patterns together are in one word of 64 bits.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["NAME_BYTES", "Automaton", "automaton", "is_pattern", "matcher"]

NAME_BYTES = 15
"""The longest name that a thread can have; the kernel's TASK_COMM_LEN less one."""

_STATES = 64
_ELEMENTS = re.compile(rb"\*+|\?|\[!?\]?[^]]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Automaton:
    """`start` are the states before the first byte, `accepting` those in which a name matches.

    A state in `staying` remains with any byte; from one in `moving[byte]` the byte leads to the
    next state, one bit to the left.
    """

    start: int
    accepting: int
    staying: int
    moving: tuple[int, ...]

    def matches(self, name: bytes) -> bool:
        """Whether one of the patterns matches the whole name."""
        states = self.start
        for byte in name:
            states = (states & self.moving[byte]) << 1 | (states & self.staying)
        return bool(states & self.accepting)


def is_pattern(text: str) -> bool:
    """Whether it has a special character; if not, it is a name."""
    return any(character in text for character in "*?[")


def automaton(patterns: Iterable[str]) -> Automaton:
    """The automaton for names that match one of these; raises ValueError if they are too long."""
    start = accepting = staying = position = 0
    moving = [0] * 256
    for pattern in patterns:
        start |= 1 << position
        for element in _ELEMENTS.findall(pattern.encode(errors="surrogateescape")):
            if element.startswith(b"*"):
                staying |= 1 << position
                continue
            for byte in range(256):
                if _fits(byte, element):
                    moving[byte] |= 1 << position
            position += 1
        accepting |= 1 << position
        position += 1
    if position > _STATES:
        raise ValueError(
            f"the patterns have {position} elements together, and there is room for {_STATES}"
        )
    return Automaton(start, accepting, staying, tuple(moving))


def _fits(byte: int, element: bytes) -> bool:
    if len(element) == 1 and element != b"?":
        return byte == element[0]
    return fnmatch.fnmatchcase(bytes([byte]), element)


def matcher(comms: Iterable[str]) -> Callable[[bytes], bool]:
    """Return a function: whether a thread's name is one of these, or matches one of these."""
    comms = tuple(comms)
    names = {comm.encode()[:NAME_BYTES] for comm in comms if not is_pattern(comm)}
    patterns = automaton(comm for comm in comms if is_pattern(comm))
    return lambda name: name in names or patterns.matches(name)
