# SPDX-License-Identifier: MIT
"""`ADDR:PORT`."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.cli.options import address, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1080", ("127.0.0.1", 1080)),
        ("10.1.2.3:0", ("10.1.2.3", 0)),
        (":10435", ("127.0.0.1", 10435)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("*:80", ("0.0.0.0", 80)),
    ],
)
def test_read(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "1.2.3:5",
        "a:1",
        "127.0.0.1:+5",
        "127.0.0.1: 5",
        "127.0.0.1:٣",
        "[::1]:5",
        "127.0.0.01:5",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not an (address and a port|IPv4 address)"):
        address(text)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_what_is_shown_is_read_back(ip: object, port: int) -> None:
    assert address(shown((str(ip), port))) == (str(ip), port)
