# SPDX-License-Identifier: MIT
"""Confines a child process, runs a script in it, and supervises it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lunatik_socket.lua.margin import limit_address_space
from tracer.errors import PROGRAM, TracerError, UnsupportedError
from tracer.process.seccomp import allow_only, supervised

from .addresses import Allowed
from .kernel_calls import Libc
from .limits import drop_privileges, lessen, limit_cpu
from .rules import rules, supervisor_rules
from .settings import Settings
from .supervisor import Supervisor

__all__ = ["complain", "leave", "run_confined"]

_TOO_MUCH_TIME = 128 + signal.SIGXCPU


def leave(status: int) -> NoReturn:
    """End the process after flushing.

    Python does not finalize: a `__gc` of a script that runs then can crash it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    ctypes.CDLL(None).fflush(None)  # the files of Lua's `io`
    os._exit(status)


def complain(error: TracerError) -> int:
    """Print an error; return its exit status."""
    sys.stderr.write(f"{PROGRAM}: {error}\n")
    return error.exit_status


def run_confined(prepare: Callable[[], Callable[[], int]], settings: Settings) -> NoReturn:
    """Fork; run what `prepare` returns in the child, confined. Ends as the child ends.

    `prepare` is called in the child, while that can still open files.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ready, gate = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _be_script(prepare, settings.cpu_seconds, ready[1], gate[0])
    os.close(ready[1])
    os.close(gate[0])
    try:
        script = os.pidfd_open(child)
        drop_privileges(for_script=False)
        _start_supervisor(child, script, ready[0], settings.allowed)
        if settings.memory_bytes is not None:
            limit_address_space(settings.memory_bytes, child)
        allow_only(supervisor_rules(os.getpid()))
        os.write(gate[1], b"go")
    except TracerError as error:
        os.kill(child, signal.SIGKILL)
        leave(complain(error))
    except BrokenPipeError:
        pass  # the child has ended, and has said why
    _, status = os.waitpid(child, 0)
    _end_like(os.waitstatus_to_exitcode(status), settings.cpu_seconds)


def _start_supervisor(child: int, script: int, ready: int, allowed: Allowed) -> None:
    with open(ready, "rb") as stream:
        number = stream.readline()
    if not number:
        raise BrokenPipeError
    listener = Libc().copy_of_descriptor(script, int(number))
    if listener < 0:
        raise UnsupportedError(
            "supervise",
            "the script",
            errno=-listener,
            hint="the kernel must let a process trace its children "
            "(sysctl kernel.yama.ptrace_scope below 2; in a container, allow pidfd_getfd)",
        )
    try:
        memory = os.open(f"/proc/{child}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UnsupportedError.of(error, "supervise", "the script") from error
    supervisor = Supervisor(script, memory, listener, allowed)
    # A thread, because it may be in a call that blocks when the script ends.
    threading.Thread(target=supervisor.run, daemon=True).start()


def _end_like(code: int, cpu_seconds: int | None) -> NoReturn:
    """End with the script's status, or by the signal that ended it."""
    if code >= 0:
        leave(code)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A script that ignores SIGXCPU is killed a second later.
    spent = cpu_seconds is not None and used.ru_utime + used.ru_stime > cpu_seconds
    if (cpu_seconds and -code == signal.SIGXCPU) or (spent and -code == signal.SIGKILL):
        sys.stderr.write(f"{PROGRAM}: the script has used its {cpu_seconds} s of CPU time\n")
        leave(_TOO_MUCH_TIME)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), -code)
    leave(128 - code)


# ------------------------------------------------------------------ in the child


def _be_script(
    prepare: Callable[[], Callable[[], int]], cpu_seconds: int | None, ready: int, gate: int
) -> NoReturn:
    status = 1
    try:
        parent = os.getppid()
        body = prepare()
        _keep_descriptors(ready, gate)
        drop_privileges(for_script=True)
        if os.getppid() != parent:  # it ended before the kernel was told to kill this process
            os._exit(status)
        lessen()
        if cpu_seconds is not None:
            limit_cpu(cpu_seconds)
        listener = supervised(rules())
        os.write(ready, b"%d\n" % listener)
        os.read(gate, 1)
        for descriptor in (ready, gate, listener):
            os.close(descriptor)
        status = body()
    except TracerError as error:
        status = complain(error)
    finally:
        leave(status)


def _keep_descriptors(*kept: int) -> None:
    """Close all but the standard ones and `kept`. What stays can be written only."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    for number in (1, 2):
        if os.isatty(number):
            # A terminal is usually opened for both: the script would read what is typed.
            only_writing = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NOCTTY)
            os.dup2(only_writing, number)
    for number in sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        if number > 2 and number not in kept:
            try:
                os.close(number)
            except OSError:  # the list's own descriptor
                continue
