# SPDX-License-Identifier: MIT
"""Parsing of SOCKSv4 requests: complete, cut at any byte, malformed, and random bytes."""

import socket
import string
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunatik_socket.servers.socks4_request import (
    GRANTED,
    MAX_REQUEST_BYTES,
    REFUSED,
    MalformedRequestError,
    Request,
    parse_request,
    reply,
)

_USERS = st.text(string.ascii_letters + string.digits + " _-@", max_size=255)
_NAMES = st.text(string.ascii_lowercase + string.digits + ".-", min_size=1, max_size=255)


def _wire(port: int, address: str, user: str, name: str | None = None, command: int = 1) -> bytes:
    head = struct.pack("!BBH", 4, command, port) + socket.inet_aton(address) + user.encode() + b"\0"
    return head + (b"" if name is None else name.encode() + b"\0")


@given(st.integers(0, 65535), st.integers(0x100, 2**32 - 1), _USERS, st.binary(max_size=20))
def test_plain_requests_split_at_every_byte(port: int, ip: int, user: str, more: bytes) -> None:
    address = socket.inet_ntoa(ip.to_bytes(4, "big"))
    wire = _wire(port, address, user)
    for cut in range(len(wire)):
        assert parse_request(wire[:cut]) is None
    assert parse_request(wire + more) == (Request(1, address, port, user), len(wire))


@given(st.integers(0, 65535), st.integers(1, 255), _USERS, _NAMES, st.binary(max_size=20))
def test_4a_requests_split_at_every_byte(
    port: int, last: int, user: str, name: str, more: bytes
) -> None:
    address = f"0.0.0.{last}"
    wire = _wire(port, address, user, name)
    assert len(wire) <= MAX_REQUEST_BYTES
    for cut in range(len(wire)):
        assert parse_request(wire[:cut]) is None
    assert parse_request(bytearray(wire + more)) == (
        Request(1, address, port, user, name),
        len(wire),
    )


def test_the_longest_request_is_the_stated_maximum() -> None:
    wire = _wire(80, "0.0.0.1", "u" * 255, "n" * 255)
    assert len(wire) == MAX_REQUEST_BYTES
    assert parse_request(wire) is not None


def test_all_zero_address_asks_for_no_name() -> None:
    assert parse_request(_wire(80, "0.0.0.0", "")) == (Request(1, "0.0.0.0", 80, ""), 9)


def test_bind_is_well_formed() -> None:
    parsed = parse_request(_wire(80, "10.0.0.1", "", command=2))
    assert parsed is not None
    assert parsed[0].command == 2


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"\x05", "protocol version 5, expected 4"),
        (b"GET / HTTP/1.1\r\n", "protocol version 71, expected 4"),
        (b"\x04\x03", r"command 3, expected 1 \(CONNECT\) or 2 \(BIND\)"),
        (b"\x04\x01\0P\x7f\0\0\x01" + b"u" * 256, "user id longer than 255 bytes"),
        (b"\x04\x01\0P\0\0\0\x01\0" + b"n" * 256, "host name longer than 255 bytes"),
        (b"\x04\x01\0P\0\0\0\x01\0\0", 'host name "" is empty or not printable ASCII'),
        (b"\x04\x01\0P\0\0\0\x01\0a b\0", 'host name "a b" is empty or not printable ASCII'),
        (b"\x04\x01\0P\0\0\0\x01\0\xff\0", r'host name "\\xff" is empty or not printable ASCII'),
    ],
)
def test_malformed_requests(received: bytes, message: str) -> None:
    with pytest.raises(MalformedRequestError, match=f"^{message}$"):
        parse_request(received)


def test_a_user_cannot_write_log_lines() -> None:
    parsed = parse_request(b"\x04\x01\0P\x7f\0\0\x01root\nadmin\\x\xe9\0")
    assert parsed is not None
    assert parsed[0].user == "root\\x0aadmin\\x5cx\\xe9"


@given(st.binary(max_size=MAX_REQUEST_BYTES + 40))
def test_any_bytes_give_a_request_or_the_one_error(tail: bytes) -> None:
    for received in (tail, b"\x04\x01" + tail, b"\x04\x01\0P\0\0\0\x01" + tail):
        try:
            parsed = parse_request(received)
        except MalformedRequestError:
            continue
        if parsed is None:
            assert len(received) < MAX_REQUEST_BYTES
        else:
            assert 9 <= parsed[1] <= min(len(received), MAX_REQUEST_BYTES)
            assert parsed[0].destination.isprintable()


def test_destinations_as_shown() -> None:
    assert Request(1, "10.0.0.1", 80, "").destination == "10.0.0.1:80"
    assert Request(1, "0.0.0.1", 80, "", "example.org").destination == "example.org:80"


def test_replies() -> None:
    assert reply(GRANTED, b"\x7f\0\0\x01", 80) == b"\0\x5a\0P\x7f\0\0\x01"
    assert reply(REFUSED) == b"\0\x5b\0\0\0\0\0\0"
