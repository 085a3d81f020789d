# SPDX-License-Identifier: MIT
"""Errors as objects, and the one place that turns them into text.

TracerError              what failed, on which object, why, and what to do; exit status 3
├── UnsupportedError     this kernel or machine lacks something
├── PermissionRefused    this user lacks a right
├── ProgramError         a BPF program did not compile or load; `.log` has the output of the
│                        compiler or the verifier
└── UsageError           the command line names something that does not exist; exit status 2
"""

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM, errorcode
from os import strerror
from typing import Any, Self

__all__ = [
    "PROGRAM",
    "PermissionRefused",
    "ProgramError",
    "TracerError",
    "UnsupportedError",
    "UsageError",
    "describe_errno",
    "errno_name",
    "one_line",
]

PROGRAM = "lunatik-socket"


class TracerError(Exception):
    """Base of all errors of the tracer: data until someone asks for the text.

    `what` could not be done, as it reads after "cannot" (`export the dashboards to`); `object` is
    the file, process or address concerned. `cause` says why, by default with the system's text for
    `errno`, the (positive) error number. `hint` is what the user can do about it.
    `log` is the output of a compiler or of the verifier, if there is any.
    """

    exit_status = 3
    log = ""

    def __init__(
        self,
        what: str,
        object: str | None = None,
        cause: str | None = None,
        errno: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, object, cause, errno, hint)
        self.what, self.object, self.errno, self.hint = what, object, errno, hint
        self.cause = strerror(errno) if cause is None and errno else cause

    @property
    def reason(self) -> str:
        """`<cause> (<ERRNO>)`: the middle of the text."""
        name = f"({errno_name(self.errno)})" if self.errno else None
        return " ".join(part for part in (self.cause, name) if part)

    def __str__(self) -> str:
        """`cannot <what> "<object>": <cause> (<ERRNO>); <hint>`, without the parts not set."""
        text = f"cannot {self.what}"
        if self.object is not None:
            text += f' "{self.object}"'
        if self.reason:
            text += f": {self.reason}"
        return f"{text}; {self.hint}" if self.hint else text

    def to_json(self) -> dict[str, Any]:
        """The fields and the class's name, for another process (`from_json`)."""
        return {
            "kind": type(self).__name__,
            "what": self.what,
            "object": self.object,
            "cause": self.cause,
            "errno": self.errno,
            "hint": self.hint,
            "log": self.log,
        }

    @staticmethod
    def from_json(fields: dict[str, Any]) -> "TracerError":
        """The error that `to_json` described, of the same class."""
        parts = {name: fields[name] for name in ("what", "object", "cause", "errno", "hint")}
        error = _KINDS[fields["kind"]](**parts)
        error.log = fields["log"]
        return error

    @classmethod
    def of(
        cls, error: OSError, what: str, object: str | None = None, hint: str | None = None
    ) -> Self:
        """An error with the cause and the errno of `error`."""
        cause = error.strerror or str(error) or type(error).__name__
        return cls(what, object, cause, error.errno, hint)


class UnsupportedError(TracerError):
    """The machine or its kernel lacks something that tracing needs."""


class PermissionRefused(TracerError):
    """The user lacks a right."""


class ProgramError(TracerError):
    """A BPF program did not compile or load."""


class UsageError(TracerError):
    """The command line names something that does not exist or cannot be used this way."""

    exit_status = 2


# What was being done, and the hint, when a limit of the process or the machine is reached.
_LIMITS = {
    EMFILE: ("open another file", "raise the limit (ulimit -n, LimitNOFILE=)"),
    ENFILE: ("open another file", "raise the limit of the machine (sysctl fs.file-max)"),
    EAGAIN: ("start a process", "raise the limit of processes (ulimit -u, TasksMax=)"),
    ENOMEM: ("continue", "raise the memory limit (ulimit -v, MemoryMax=)"),
}
_KINDS = {
    kind.__name__: kind
    for kind in (TracerError, UnsupportedError, PermissionRefused, ProgramError, UsageError)
}


def errno_name(number: int | None) -> str:
    """`ENOENT`; a number without a name as digits."""
    return errorcode.get(number or 0, str(number))


def describe_errno(number: int | None) -> str:
    """`No such file or directory (ENOENT)`."""
    return f"{strerror(number or 0)} ({errno_name(number)})"


def one_line(error: OSError) -> str:
    """An OSError as text for the user.

    The socket API (lunatik_socket) raises OSError with a complete sentence; that is kept. Others
    have a cause and at most a file name. A limit that was reached is named, with what raises it.
    """
    text = error.strerror or str(error)
    # A full pipe is EAGAIN, too, but with a text of Python's own.
    if error.errno in _LIMITS and text == strerror(error.errno):
        what, hint = _LIMITS[error.errno]
        return str(TracerError(what, errno=error.errno, hint=hint))
    if text.startswith("cannot ") or error.errno is None:
        return text
    if error.filename:
        return str(TracerError.of(error, "use", str(error.filename)))
    return str(TracerError.of(error, "write the output"))
