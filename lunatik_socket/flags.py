# SPDX-License-Identifier: MIT
"""Flags of a call: an integer, or letters, one for each of the kernel's MSG_ constants."""

from __future__ import annotations

from _socket import (
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
)

__all__ = ["LETTERS", "MAX_FLAGS", "flags_value"]

MAX_FLAGS = 0x7FFFFFFF  # flags are a C int

LETTERS = {
    "D": MSG_DONTWAIT,
    "M": MSG_MORE,
    "N": MSG_NOSIGNAL,
    "O": MSG_OOB,
    "P": MSG_PEEK,
    "T": MSG_TRUNC,
    "W": MSG_WAITALL,
}


def flags_value(flags: object) -> int:
    """Return `flags` as an integer.

    Raises ValueError for an unknown letter and for a number that is negative or above `MAX_FLAGS`.
    """
    if isinstance(flags, str):
        value = 0
        for letter in flags:
            if letter not in LETTERS:
                raise ValueError(f"invalid flags name {flags!r}: letters are {' '.join(LETTERS)}")
            value |= LETTERS[letter]
        return value
    if not isinstance(flags, int):
        raise TypeError(f"flags must be an integer or a string, not {type(flags).__name__}")
    if 0 <= flags <= MAX_FLAGS:
        return flags
    raise ValueError(f"flags out of range: {flags} (must be 0 to 0x7fffffff)")
