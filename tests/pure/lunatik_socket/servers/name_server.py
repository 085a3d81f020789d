# SPDX-License-Identifier: MIT
"""A name server on loopback that answers from a dictionary, or not at all."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SERVER_FAILURE, NO_SUCH_NAME = 2, 3


@dataclass
class NameServer:
    """`answers`: by name the addresses, or an error code. A name that is not in it is not answered.

    `asked` are the names asked for, `sources` the ports that they were asked from. `heard` is set
    with each question.
    """

    address: str
    answers: dict[str, list[str] | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sources: set[int] = field(default_factory=set)
    heard: threading.Event = field(default_factory=threading.Event)


@contextmanager
def name_server(
    answers: dict[str, list[str] | int] | None = None, address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[NameServer]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        server = NameServer("{}:{}".format(*sock.getsockname()), answers or {})
        thread = threading.Thread(target=_serve, args=(sock, server))
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join()


def _serve(sock: socket.socket, server: NameServer) -> None:
    while True:
        question, source = sock.recvfrom(4096)
        if not question:
            return
        name, end = _name_in(question)
        server.asked.append(name)
        server.sources.add(source[1])
        server.heard.set()
        if (answer := server.answers.get(name)) is not None:
            sock.sendto(_reply(question, end, answer), source)


def _name_in(question: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), at + 5  # the end of the name, its type and its class


def _reply(question: bytes, end: int, answer: list[str] | int) -> bytes:
    addresses, code = ([], answer) if isinstance(answer, int) else (answer, 0)
    head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(addresses), 0, 0)
    records = (
        b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
        for address in addresses
    )
    return head + question[12:end] + b"".join(records)
