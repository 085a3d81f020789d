# SPDX-License-Identifier: MIT
"""What can go wrong, for the user to read.

TracerError              one line: what could not be done, why, the mend; exit status 3
├── UnsupportedError     this kernel or machine lacks something
├── PermissionRefused    this user may not
├── ProgramError         a BPF program did not compile or load; `.log` has the compiler's or
│                        the verifier's words
└── UsageError            the call itself was wrong (no such process, no such cgroup); status 2
"""

import errno

__all__ = [
    "PROGRAM",
    "PermissionRefused",
    "ProgramError",
    "TracerError",
    "UnsupportedError",
    "UsageError",
    "cause_of",
    "one_line",
]

PROGRAM = "lunatik-socket"


class TracerError(Exception):
    """Base of all: the message is one line with the cause and the mend."""

    exit_status = 3


class UnsupportedError(TracerError):
    """Something this needs is missing from the machine or its kernel."""


class PermissionRefused(TracerError):
    """The user lacks a capability."""


class ProgramError(TracerError):
    """A BPF program was refused; `log` holds what the compiler or the verifier said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class UsageError(TracerError):
    """The arguments name something that is not there."""

    exit_status = 2


def cause_of(error: OSError) -> str:
    """`No such file or directory (ENOENT)`."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"


def one_line(error: OSError) -> str:
    """What could not be done, and why. Ours say so themselves; what others raise names a file."""
    text = error.strerror or str(error)
    if text.startswith("cannot ") or error.errno is None:
        return text
    what = f'use "{error.filename}"' if error.filename else "write the output"
    return f"cannot {what}: {cause_of(error)}"
