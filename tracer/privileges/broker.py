# SPDX-License-Identifier: MIT
"""The two ends of the socket pair between worker and broker.

A request is a JSON array, the name of a method of `Requests` and its arguments. The answer is
{"result": …}, or {"error": [kind, errno, text]}. Each is preceded by its length in four bytes. The
broker believes nothing that the worker says: the length is bounded, the name must be on the list,
and the arguments must have the annotated types. A worker that breaks the protocol is cut off.
"""

import functools
import inspect
import json
import socket
import struct
from collections.abc import Callable
from threading import Lock
from typing import Any, cast

from tracer.privileges.requests import Requests

__all__ = ["Answerer", "requests_over"]

_LENGTH = struct.Struct("=I")
_LONGEST_REQUEST = 4096
_LONGEST_ANSWER = 1 << 28
_TIMEOUT_SECONDS = 30
_ARGUMENTS = (int, str, bool)


class Answerer:
    """The broker's end: answers the requests that arrive on `connection`."""

    def __init__(self, connection: socket.socket, requests: Requests) -> None:
        self._connection, self._requests = connection, requests
        # A worker that stops in the middle of a request must not hold up signals for long.
        connection.settimeout(_TIMEOUT_SECONDS)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._connection.fileno()

    def answer_one(self) -> bool:
        """Wait for a request and answer it. False if the worker has ended or is cut off."""
        try:
            text = _receive(self._connection, _LONGEST_REQUEST)
            if text is not None:
                _send(self._connection, self._answer(text))
                return True
        except (OSError, ValueError):
            pass
        self._connection.close()
        return False

    def _answer(self, text: bytes) -> bytes:
        name, arguments = _parsed(text)
        try:
            answer = {"result": getattr(self._requests, name)(*arguments)}
        except OSError as error:
            answer = {"error": ["OSError", error.errno, error.strerror or str(error)]}
        except Exception as error:  # the broker goes on, whatever the worker has asked for
            answer = {"error": [type(error).__name__, None, str(error)]}
        return json.dumps(answer).encode()


def requests_over(connection: socket.socket) -> Requests:
    """The worker's end: an object whose methods ask the broker. Many threads may call them."""
    return cast(Requests, _Asking(connection))


class _Asking:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _signatures():
            raise AttributeError(name)
        return functools.partial(self._ask, name)

    def _ask(self, name: str, *arguments: int | str) -> Any:
        with self._lock:
            _send(self._connection, json.dumps([name, *arguments]).encode())
            text = _receive(self._connection, _LONGEST_ANSWER)
        if text is None:
            raise ConnectionError("the process that answers has ended")
        answer = json.loads(text)
        if "error" in answer:
            kind, code, message = answer["error"]
            raise OSError(code, message) if kind == "OSError" else RuntimeError(message)
        return answer["result"]


@functools.cache
def _signatures() -> dict[str, tuple[type, ...]]:
    """The types of the arguments of each request."""
    found = {}
    for name, method in inspect.getmembers(Requests, inspect.isfunction):
        if not name.startswith("_"):
            of_method = inspect.signature(method).parameters.values()
            found[name] = tuple(p.annotation for p in of_method if p.name != "self")
            assert all(kind in _ARGUMENTS for kind in found[name]), name
    return found


def _parsed(text: bytes) -> tuple[str, list[int | str]]:
    """The name and the arguments of a request; raises ValueError if it is none."""
    try:
        request = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(request, list) or not request or not isinstance(request[0], str):
        raise ValueError("not a request")
    name, *arguments = request
    kinds = _signatures().get(name)
    if kinds is None or tuple(type(one) for one in arguments) != kinds:
        raise ValueError("not a request on the list")
    return name, arguments


def _send(connection: socket.socket, text: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(text)) + text)


def _receive(connection: socket.socket, longest: int) -> bytes | None:
    """The next message; None at the end. Raises ValueError if it is longer than `longest`."""
    head = _receive_all(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > longest:
        raise ValueError("too long")
    return _receive_all(connection, length)


def _receive_all(connection: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
