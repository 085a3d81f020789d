# SPDX-License-Identifier: MIT
"""The values of options: addresses and times."""

import ipaddress

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.cli.options import address, metrics_address, seconds, shown


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
    with pytest.raises(click.BadParameter, match=r"is not (ADDR:PORT|an IPv4 address)"):
        address(text)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_a_shown_address_is_read_back(ip: object, port: int) -> None:
    assert address(shown((str(ip), port))) == (str(ip), port)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_a_metrics_address_may_be_ipv6(ip: object, port: int) -> None:
    host, read_port = metrics_address(shown((str(ip), port)))
    assert (ipaddress.ip_address(host), read_port) == (ip, port)


@pytest.mark.parametrize(
    "text", ["[::1]", "[::1:5", "::1:5", "[::1]:65536", "[x]:1", "[1.2.3.4]:5"]
)
def test_a_metrics_address_that_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not"):
        metrics_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5s", 5.0),
        ("250ms", 0.25),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        (1.0, 1.0),
        ("1000000000", 1e9),
    ],
)
def test_a_time(text: str | float, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "s", "5 x", "5d", "1e9", "inf", "nan", "0.5ms", "٣", "1000000001", "5ss"],
)
def test_a_time_that_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time from 1ms to 1e9 seconds"):
        seconds(text)


@given(st.floats(0.001, 1e9))
def test_a_time_passed_to_another_process_is_unchanged(value: float) -> None:
    assert seconds(str(value)) == value
