# SPDX-License-Identifier: MIT
"""Parsing a SOCKSv4 request and making its reply, as bytes. No sockets here.

    request   4 | command | port (2) | address (4) | user id … 0 [| host name … 0]
    reply     0 |   90/91 | port (2) | address (4)

The host name belongs to the extension 4a: it follows if the address is 0.0.0.x and x is not zero.
Sources: "SOCKS: A protocol for TCP proxy across firewalls" (Ying-Da Lee) and "SOCKS 4A: A Simple
Extension to SOCKS 4 Protocol" (the same), as shipped with OpenSSH and curl.
"""

from _socket import inet_aton, inet_ntoa
from dataclasses import dataclass
from struct import Struct

__all__ = [
    "CONNECT",
    "GRANTED",
    "MAX_REQUEST_BYTES",
    "REFUSED",
    "MalformedRequestError",
    "Request",
    "parse_request",
    "reply",
]

CONNECT = 1
BIND = 2
GRANTED = 90
REFUSED = 91
# 92 and 93 are about identd, which is obsolete. They are never sent.

# The maximum of a host name (RFC 1035). The same limit is used for user ids.
MAX_TEXT_BYTES = 255
_HEAD = Struct("!BBH4s")
MAX_REQUEST_BYTES = _HEAD.size + 2 * (MAX_TEXT_BYTES + 1)


class MalformedRequestError(ValueError):
    """The received bytes are not the start of a SOCKSv4 request."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `name` is set for 4a only; `address` then has no meaning."""

    command: int
    address: str
    port: int
    user: str
    name: str | None = None

    @property
    def destination(self) -> str:
        """The destination for log lines."""
        return f"{self.name or self.address}:{self.port}"

    @property
    def literal_address(self) -> str:
        """The address of the destination if no name must be looked up, otherwise "".

        A name may be an address in any notation of inet_aton(3), such as `127.1`.
        """
        if self.name is None:
            return self.address
        try:
            return inet_ntoa(inet_aton(self.name))
        except OSError:
            return ""


def parse_request(received: bytes | bytearray) -> tuple[Request, int] | None:
    """Read a request from the start of `received`.

    Returns the request and the number of bytes it took (what follows is the client's first data),
    or None if the request is not complete. Raises MalformedRequestError as soon as the bytes cannot
    become a request.
    """
    if received and received[0] != 4:
        raise MalformedRequestError(f"protocol version {received[0]}, expected 4")
    if len(received) > 1 and received[1] not in {CONNECT, BIND}:
        raise MalformedRequestError(f"command {received[1]}, expected 1 (CONNECT) or 2 (BIND)")
    user_end = _end_of_text(received, _HEAD.size, "user id")
    if user_end is None:
        return None
    _, command, port, packed = _HEAD.unpack_from(received)
    user = _printable(received[_HEAD.size : user_end])
    if packed[:3] != b"\0\0\0" or packed[3] == 0:
        return Request(command, inet_ntoa(packed), port, user), user_end + 1
    name_end = _end_of_text(received, user_end + 1, "host name")
    if name_end is None:
        return None
    name = _host_name(bytes(received[user_end + 1 : name_end]))
    return Request(command, inet_ntoa(packed), port, user, name), name_end + 1


def reply(code: int, address: bytes = b"\0\0\0\0", port: int = 0) -> bytes:
    """Return the 8 bytes that answer a request. `code` is GRANTED or REFUSED."""
    return _HEAD.pack(0, code, port, address)


def _end_of_text(received: bytes | bytearray, start: int, what: str) -> int | None:
    end = received.find(0, start, start + MAX_TEXT_BYTES + 1)
    if end >= 0:
        return end
    if len(received) > start + MAX_TEXT_BYTES:
        raise MalformedRequestError(f"{what} longer than {MAX_TEXT_BYTES} bytes")
    return None


def _host_name(text: bytes) -> str:
    # The resolver and the log get printable ASCII only.
    if not text or not all(33 <= byte < 127 for byte in text):
        raise MalformedRequestError(
            f'host name "{_printable(text)}" is empty or not printable ASCII'
        )
    return text.decode("ascii")


def _printable(text: bytes | bytearray) -> str:
    # A user id must not break a log line or forge another one.
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in text)
