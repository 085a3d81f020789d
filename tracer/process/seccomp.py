# SPDX-License-Identifier: MIT
"""Filters of system calls for this process, made and loaded by libseccomp.so.2 through ctypes.

Debian's own binding (python3-seccomp) is for the system's Python only, and a virtual environment
without the system's packages does not see it. pyseccomp, the binding on PyPI, has had no release
since January 2021. So the seven functions that are needed are declared here. The library itself is
on every machine with systemd.

A filter cannot be removed. It is inherited by children and kept across execve(2).
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tracer.errors import UnsupportedError

__all__ = ["Argument", "Rule", "allow_only", "refuse"]

_ALLOW = 0x7FFF0000  # SCMP_ACT_ALLOW
_ERRNO = 0x00050000  # SCMP_ACT_ERRNO(0)
_MASKED_EQUAL = 7  # SCMP_CMP_MASKED_EQ
_TSYNC = 4  # SCMP_FLTATR_CTL_TSYNC
_UNKNOWN = -1  # __NR_SCMP_ERROR
_ALL_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition: the bits `mask` of the argument `number` (from 0) are equal to `value`.

    The kernel compares all 64 bits of the register. For an int, give the mask 0xFFFFFFFF: the
    upper half may hold anything. What a pointer points to cannot be compared.
    """

    number: int
    value: int
    mask: int = _ALL_BITS


@dataclass(frozen=True, slots=True)
class Rule:
    """A system call by name, if all `arguments` match; `errno` replaces the filter's own action."""

    call: str
    arguments: tuple[Argument, ...] = ()
    errno: int | None = None


def allow_only(rules: Iterable[str | Rule], refusal: int = errno.EPERM) -> None:
    """Allow what matches a rule; every other call fails with the errno `refusal`.

    Sets no_new_privs, and holds for all threads. A name that this machine's architecture does not
    have is left out. Raises UnsupportedError if libseccomp or seccomp in the kernel is missing.
    """
    _load(_ERRNO | refusal, _ALLOW, rules)


def refuse(rules: Iterable[str | Rule], refusal: int = errno.EPERM) -> None:
    """Let what matches a rule fail with the errno `refusal`; allow every other call.

    See `allow_only` for the rest.
    """
    _load(_ALLOW, _ERRNO | refusal, rules)


class _Comparison(ctypes.Structure):
    """libseccomp's struct scmp_arg_cmp."""

    _fields_ = (
        ("number", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def _load(default: int, action: int, rules: Iterable[str | Rule]) -> None:
    library = _library()
    with _context(default) as context:
        _checked(library.seccomp_attr_set(context, _TSYNC, 1))
        for rule in rules:
            rule = Rule(rule) if isinstance(rule, str) else rule  # noqa: PLW2901
            number = library.seccomp_syscall_resolve_name(rule.call.encode())
            if number == _UNKNOWN:
                continue
            comparisons = [
                _Comparison(a.number, _MASKED_EQUAL, a.mask, a.value) for a in rule.arguments
            ]
            _checked(
                library.seccomp_rule_add_array(
                    context,
                    action if rule.errno is None else _ERRNO | rule.errno,
                    number,
                    len(comparisons),
                    (_Comparison * len(comparisons))(*comparisons),
                )
            )
        _checked(library.seccomp_load(context))


@contextmanager
def _context(default: int) -> Iterator[int]:
    library = _library()
    context: int | None = library.seccomp_init(default)
    if context is None:
        raise MemoryError
    try:
        yield context
    finally:
        library.seccomp_release(context)


def _checked(result: int) -> None:
    """The library's functions return a negated errno."""
    if result < 0:
        raise UnsupportedError(
            "filter system calls",
            cause=os.strerror(-result),
            errno=-result,
            hint="needs a kernel with CONFIG_SECCOMP_FILTER; distribution kernels have it",
        )


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise UnsupportedError(
            "load",
            "libseccomp.so.2",
            "not found",
            hint="install libseccomp2 (Debian, Ubuntu) or libseccomp",
        ) from error
    context, number, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    for name, result, arguments in [
        ("seccomp_init", context, [number]),
        ("seccomp_release", None, [context]),
        ("seccomp_attr_set", integer, [context, integer, number]),
        ("seccomp_syscall_resolve_name", integer, [ctypes.c_char_p]),
        (
            "seccomp_rule_add_array",
            integer,
            [context, number, integer, ctypes.c_uint, ctypes.POINTER(_Comparison)],
        ),
        ("seccomp_load", integer, [context]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
