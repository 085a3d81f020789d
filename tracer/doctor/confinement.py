# SPDX-License-Identifier: MIT
"""Try out what worker and broker give up and keep, each in a child that is confined like it."""

import contextlib
import json
import os
import pwd
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tracer.errors import TracerError, UnsupportedError
from tracer.kernel import trial_programs
from tracer.privileges.confine import confine
from tracer.privileges.powers import BROKER, CAPABILITY_NAMES, WORKER
from tracer.process.identity import service_user

__all__ = ["broker_rights", "worker_rights"]

_MOST_BYTES = 1 << 16


def worker_rights() -> str:
    """Which user and rights the process that serves the metrics has."""
    with trial_programs.make_counter() as counter:

        def read() -> None:
            trial_programs.count_of(counter)

        found = _in_child(lambda: _as_worker(read))
    if found["error"] is not None:
        raise TracerError.from_json(found["error"])
    if found["allowed"]:
        raise UnsupportedError("confine", cause=f"it still can: {', '.join(found['allowed'])}")
    return f"the worker is {found['user']}, keeps {found['kept']} and reads maps"


def broker_rights() -> str:
    """What the process that was started as root keeps."""
    found = _in_child(_as_broker)
    if found["error"] is not None:
        raise TracerError.from_json(found["error"])
    if found["allowed"]:
        raise UnsupportedError("confine", cause=f"it still can: {', '.join(found['allowed'])}")
    return f"the broker is {found['user']}, keeps {found['kept']}"


def _as_worker(read: Callable[[], None]) -> dict[str, Any]:
    confine(WORKER, service_user(), reads_maps=read)
    read()
    return _found({"start a program": _execute, "make a socket": _connect, "write a file": _write})


def _as_broker() -> dict[str, Any]:
    confine(BROKER)
    return _found({"start a program": _execute, "make a socket": _connect, "write a file": _write})


def _found(attempts: dict[str, Callable[[], None]]) -> dict[str, Any]:
    allowed = []
    for what, attempt in attempts.items():
        with contextlib.suppress(OSError):
            attempt()
            allowed.append(what)
    mask = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            mask = int(line.split()[1], 16)
    kept = [name for number, name in CAPABILITY_NAMES.items() if mask >> number & 1]
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"user {os.getuid()}"
    return {
        "allowed": allowed,
        "kept": ", ".join(sorted(kept)) or "no capability",
        "user": user,
        "error": None,
    }


def _execute() -> None:
    os.execv("/bin/true", ["true"])


def _connect() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _write() -> None:
    with open(os.devnull, "wb"):
        pass


def _in_child(body: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run it in a child; its result, or its TracerError as `error`."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _be_the_child(body, write_end)
    os.close(write_end)
    with open(read_end, "rb") as answer:
        text = answer.read(_MOST_BYTES)
    os.waitpid(child, 0)
    if not text:
        raise UnsupportedError("confine a process", cause="the process that tried it has ended")
    found: dict[str, Any] = json.loads(text)
    return found


def _be_the_child(body: Callable[[], dict[str, Any]], write_end: int) -> NoReturn:
    try:
        try:
            found = body()
        except TracerError as error:
            found = {"error": error.to_json()}
        except OSError as error:
            found = {"error": TracerError.of(error, "confine a process").to_json()}
        os.write(write_end, json.dumps(found).encode())
    finally:
        os._exit(0)
