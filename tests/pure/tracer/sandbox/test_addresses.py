# SPDX-License-Identifier: MIT
"""Patterns of addresses, and which addresses they allow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tracer.sandbox.addresses import LOOPBACK, Allowed, parse


def allowed(ip: str, port: int, *patterns: str) -> tuple[bool, bool]:
    """Whether the patterns allow to connect to the address, and to bind to it."""
    chosen = tuple(parse(text) for text in patterns) or LOOPBACK
    both = Allowed(chosen, chosen)
    address = ip_address(ip), port
    return both.may_connect(address), both.may_listen(address)


@pytest.mark.parametrize(
    ("ip", "port", "pattern"),
    [
        ("10.0.0.7", 443, "10.0.0.7:443"),
        ("10.1.2.3", 65535, "10.0.0.0/8:*"),
        ("8.8.8.8", 8005, "*:8000-8100"),
        ("fd00::5", 80, "[fd00::/8]:80"),
        ("::ffff:10.0.0.7", 443, "10.0.0.7:443"),
        ("10.9.9.9", 1, "10.0.0.1/8:1"),
        ("::5", 80, "[*]:80"),
    ],
)
def test_a_pattern_allows_what_it_names(ip: str, port: int, pattern: str) -> None:
    assert allowed(ip, port, pattern) == (True, True)


@pytest.mark.parametrize(
    ("ip", "port", "pattern"),
    [
        ("10.0.0.8", 443, "10.0.0.7:443"),
        ("10.0.0.7", 444, "10.0.0.7:443"),
        ("11.0.0.1", 1, "10.0.0.0/8:*"),
        ("8.8.8.8", 8101, "*:8000-8100"),
        ("::ffff:11.0.0.7", 443, "10.0.0.0/8:443"),
        ("::a00:7", 443, "10.0.0.7:443"),
    ],
)
def test_a_pattern_allows_nothing_else(ip: str, port: int, pattern: str) -> None:
    assert allowed(ip, port, pattern) == (False, False)


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_without_a_pattern_loopback_is_allowed(ip: str) -> None:
    assert allowed(ip, 5) == (True, True)
    assert allowed("10.0.0.1", 5) == (False, False)


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_all_zeros_are_this_host_to_connect_to_and_every_address_to_bind_to(ip: str) -> None:
    assert allowed(ip, 5) == (True, False)
    assert allowed(ip, 5, "*:5") == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "10.0.0.1", "10.0.0.1:", ":80", "x.org:80", "10.0.0.1:80-70", "10.0.0.1:65536"),
        *("::1:80", "[10.0.0.1]:80", "[::1]80", "10.0.0.1:-1", "10.0.0.0/33:80", "10.0.0.1:8 "),
    ],
)
def test_another_text_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDR:PORT"):
        parse(text)
