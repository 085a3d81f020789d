# SPDX-License-Identifier: MIT
"""The web configuration file: read at the start, and again when it or a file that it names changes.

A change is taken when the files have been the same for two readings, so that a file that is being
written is not taken for a shorter one. A change that is wrong is logged, and the old configuration
is kept.
"""

import contextlib
import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from tracer.errors import UsageError
from tracer.exporter.http.settings import WebSettings

__all__ = ["Reader", "WebConfigFile", "read_file"]

CHECK_SECONDS = 1.0
_MAX_BYTES = 1 << 20

Reader = Callable[[str], bytes]
"""Returns the content of the file of this name, or raises OSError."""

_log = logging.getLogger(__name__)


def read_file(name: str) -> bytes:
    """The content of a file: the `Reader` for a process that may read it itself."""
    with open(name, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(None, f"larger than {_MAX_BYTES >> 20} MB")
    return content


class _Recorder:
    """Reads files, and remembers a digest of what each had, or why it could not be read."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self.digests: dict[str, str] = {}

    def __call__(self, name: str) -> bytes:
        try:
            content = self._read(name)
        except OSError as error:
            self.digests[name] = f"error {error.errno}"
            raise
        self.digests[name] = hashlib.sha256(content).hexdigest()
        return content


class WebConfigFile:
    """The settings of the file at `path`, read by `read`; raises UsageError if it is wrong.

    Between `watch` and `stop` a thread looks for changes once a second.
    """

    def __init__(self, path: str, read: Reader = read_file) -> None:
        self._path = str(Path(path).absolute())
        self._shown = path
        self._read = read
        self._known: dict[str, str] = {}
        self._named: set[str] = set()
        self._pending: dict[str, str] = {}
        self._stopped = Event()
        self._thread: Thread | None = None
        self.current: WebSettings = self._load()

    def read_through(self, read: Reader) -> None:
        """From now on read the files by `read`: this process has lost the right to."""
        self._read = read

    def named_file(self, name: str) -> bytes:
        """Read a file for a process without the right to: this one, or one that it names.

        Raises OSError. A file that it has named once may always be read.
        """
        if name not in self._named:
            self._named |= self._names()
        if name not in self._named:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read_file(name)

    def _names(self) -> set[str]:
        """The path of this file, and the files that it names as of now."""
        from tracer.exporter.http.config_schema import Fault, parse  # noqa: PLC0415

        recorder = _Recorder(read_file)
        with contextlib.suppress(OSError, Fault):
            parse(recorder(self._path), Path(self._path).parent, recorder)
        return set(recorder.digests)

    def watch(self) -> None:
        """Begin to look for changes."""
        self._stopped.clear()
        self._thread = Thread(target=self._run, name="web-config", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look for changes no longer. Safe to call twice."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Look for a change once."""
        seen = self._digests()
        if seen == self._known:
            self._pending = {}
        elif seen != self._pending:
            self._pending = seen
        else:
            self._take_change()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            self.check()

    def _digests(self) -> dict[str, str]:
        recorder = _Recorder(self._read)
        for name in self._known:
            with contextlib.suppress(OSError):
                recorder(name)
        return recorder.digests

    def _take_change(self) -> None:
        self._pending = {}
        try:
            new = self._load()
            if (new.tls is None) is not (self.current.tls is None):
                raise self._error("TLS cannot be switched on or off meanwhile", "restart")
        except UsageError as error:
            _log.error("%s; the old configuration stays in use", error)
            return
        self.current = new
        _log.info("read the changed web configuration %s", self._shown)

    def _load(self) -> WebSettings:
        from tracer.exporter.http.config_schema import Fault, parse  # noqa: PLC0415

        recorder = _Recorder(self._read)
        try:
            content = recorder(self._path)
            return parse(content, Path(self._path).parent, recorder)
        except OSError as error:
            raise UsageError.of(error, "read the web configuration", self._shown) from None
        except Fault as fault:
            raise self._error(str(fault), fault.hint) from None
        finally:
            self._known = recorder.digests

    def _error(self, cause: str, hint: str | None) -> UsageError:
        return UsageError("use the web configuration", self._shown, cause, hint=hint)
