# SPDX-License-Identifier: MIT
"""A command that is started and held before its first instruction until the tracer is ready."""

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from tracer.errors import TracerError
from tracer.process.identity import Identity, become
from tracer.process.rights import set_death_signal

__all__ = ["CommandError", "StartedCommand"]

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class CommandError(TracerError):
    """The command could not be executed. Exit status as in a shell: 127 not found, else 126."""

    def __init__(self, command: str, code: int) -> None:
        hint = (
            "check the name and the PATH"
            if code == errno.ENOENT
            else "check that it is an executable program"
        )
        super().__init__("run", command, errno=code, hint=hint)
        self.exit_status = _NOT_FOUND if code == errno.ENOENT else _NOT_EXECUTABLE


@dataclass(frozen=True, slots=True)
class _Pipes:
    gate: tuple[int, int]
    failure: tuple[int, int]


class StartedCommand:
    """`command`, forked but not yet executed; `release` lets it execute.

    With `dies_with_us` the kernel kills it when this process ends, even by SIGKILL. A command that
    was not released yet ends with this process in any case. `output` and `errors` are descriptors
    for its standard output and standard error; `identity` is the user that it runs as, None for the
    same. Make it before any thread is started: it forks.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        dies_with_us: bool = False,
        output: int | None = None,
        errors: int | None = None,
        identity: Identity | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._identity = identity
        self._environment = dict(os.environ if environment is None else environment)
        if identity is not None:
            self._environment |= identity.environment
        self._dies_with_us = dies_with_us
        self._redirections = [(s, t) for s, t in ((output, 1), (errors, 2)) if s is not None]
        self._pipes = pipes = _Pipes(os.pipe(), os.pipe())
        self._status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._become_command()
        os.close(pipes.gate[0])
        os.close(pipes.failure[1])
        self._held = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it if it still runs: no process would wait for it afterwards."""
        if self._held:
            os.close(self._pipes.gate[1])
            os.close(self._pipes.failure[0])
        elif self.poll() is None:
            self.send(signal.SIGKILL)
        if self._status is None:
            os.waitpid(self.pid, 0)

    def release(self) -> None:
        """Let it execute; raises CommandError if the kernel refuses."""
        self._held = False
        with contextlib.suppress(BrokenPipeError):  # it was killed while it waited
            os.write(self._pipes.gate[1], b"go")
        os.close(self._pipes.gate[1])
        with open(self._pipes.failure[0], "rb") as failure:
            code = failure.read()
        if code:
            _, self._status = os.waitpid(self.pid, 0)
            raise CommandError(self._command[0], int(code))

    def poll(self) -> int | None:
        """Return None while it runs, then its exit status as a shell reports it (128 + signal)."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else 128 - code
        return self._status

    def send(self, signal_number: int) -> None:
        """Send it a signal."""
        if self._status is None:
            os.kill(self.pid, signal_number)

    def _become_command(self) -> NoReturn:
        """In the child: wait for the gate to open, then execute."""
        status = _NOT_FOUND
        try:
            os.close(self._pipes.gate[1])
            os.close(self._pipes.failure[0])
            self._prepare()
            if os.read(self._pipes.gate[0], 1):
                os.execvpe(self._command[0], self._command, self._environment)
        except OSError as error:
            os.write(self._pipes.failure[1], str(error.errno).encode())
        except BaseException:  # the child must never continue as a second tracer
            status = 1
        finally:
            os._exit(status)

    def _prepare(self) -> None:
        if self._identity is not None:
            become(self._identity)  # clears the signal that is set next
        if self._dies_with_us:
            set_death_signal(signal.SIGKILL)
        for source, target in self._redirections:
            os.dup2(source, target)
        # Python ignores these two, and an ignored signal stays ignored after exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
