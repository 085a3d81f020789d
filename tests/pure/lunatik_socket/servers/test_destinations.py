# SPDX-License-Identifier: MIT
"""Which destinations the proxy connects to: the rules, and what is denied without any."""

import logging
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunatik_socket.servers import socks4
from lunatik_socket.servers.destinations import DestinationRule, Destinations
from lunatik_socket.servers.resolver import Resolver
from lunatik_socket.servers.socks4 import Socks4Config
from tests.pure.lunatik_socket.servers.name_server import name_server
from tests.pure.lunatik_socket.servers.serving import (
    GRANTED,
    REFUSED,
    WAIT_SECONDS,
    asking,
    connected,
    listening,
    own_address,
    proxy,
    read_all,
    read_exactly,
)

LOGGER = "lunatik_socket.servers.socks4"
HERE, ELSEWHERE = "127.0.0.1", "192.0.2.9"

ADDRESSES = st.ip_addresses(v=4).map(str)
PORTS = st.integers(1, 65535)


@given(ADDRESSES, PORTS)
def test_without_rules_a_client_on_loopback_may_connect_anywhere(address: str, port: int) -> None:
    assert Destinations().refusal(address, port, HERE) == ""


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("169.254.169.254", True),
        ("126.255.255.255", False),
        ("128.0.0.0", False),
        ("169.253.255.255", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_and_link_local_are_denied_to_other_machines(address: str, refused: bool) -> None:
    refusal = Destinations().refusal(address, 80, ELSEWHERE)
    assert ("loopback and link-local" in refusal) == refused


@pytest.mark.parametrize(
    ("rule", "address", "port", "refused"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, False),
        ("127.0.0.1:8080", "127.0.0.1", 8081, True),
        ("127.0.0.0/8", "127.9.9.9", 1, False),
        ("*", "127.0.0.1", 8080, True),
        ("0.0.0.0/0:8080", "127.0.0.1", 8080, True),
        ("126.0.0.0/7", "127.0.0.1", 8080, True),
        ("*", "10.0.0.1", 8080, False),
    ],
)
def test_only_a_rule_about_local_destinations_allows_them_to_other_machines(
    rule: str, address: str, port: int, refused: bool
) -> None:
    assert bool(Destinations([rule]).refusal(address, port, ELSEWHERE)) == refused


def test_a_rule_that_denies_comes_first() -> None:
    rules = Destinations(["10.0.0.0/8"], ["10.1.0.0/16:25,100-200"])
    assert rules.refusal("10.1.2.3", 80, HERE) == ""
    for port in (25, 100, 150, 200):
        assert rules.refusal("10.1.2.3", port, HERE) == (
            f'10.1.2.3:{port} is denied by the rule "10.1.0.0/16:25,100-200"'
        )
    assert rules.refusal("10.2.0.0", 25, HERE) == ""


def test_what_no_rule_allows_is_refused() -> None:
    rules = Destinations(["10.0.0.0/8:443", "192.0.2.1"])
    assert rules.refusal("10.9.9.9", 443, HERE) == ""
    assert rules.refusal("192.0.2.1", 9, HERE) == ""
    assert rules.refusal("10.9.9.9", 80, HERE) == (
        "10.9.9.9:80 is not in the list of allowed destinations"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '"" in "" is not an IPv4 network (e.g. 10.0.0.0/8, 192.0.2.1)'),
        ("example.org:80", '"example.org" in "example.org:80" is not an IPv4 network'),
        ("10.0.0.0/33", '"10.0.0.0/33" in "10.0.0.0/33" is not an IPv4 network'),
        ("::1", "is not PORT, PORT-PORT or a list of them"),
        ("10.0.0.1/8", '"10.0.0.1/8" in "10.0.0.1/8" has bits set after its prefix; write 10.0.0'),
        ("10.0.0.0/8:", '"" in "10.0.0.0/8:" is not PORT, PORT-PORT or a list of them'),
        ("*:80;81", '"80;81" in "*:80;81" is not PORT, PORT-PORT or a list of them'),
        ("*:0", '"0" in "*:0" is not a port or a range of ports'),
        ("*:9-8", '"9-8" in "*:9-8" is not a port or a range of ports'),
        ("*:65536", '"65536" in "*:65536" is not a port or a range of ports'),
    ],
)
def test_a_wrong_rule(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has bits") as error:
        Socks4Config(allowed_destinations=(text,))
    assert message in str(error.value)


@given(st.text())
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = DestinationRule.parse(text)
    except ValueError:
        return
    assert rule.text == text
    assert rule.ports


@given(ADDRESSES, st.integers(0, 32), PORTS, ADDRESSES, PORTS)
def test_a_rule_matches_the_addresses_of_its_prefix(
    network: str, prefix: int, port: int, address: str, other_port: int
) -> None:
    mask = (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF
    base = _number(network) & mask
    shown = socket.inet_ntoa(struct.pack("!I", base))
    rules = Destinations(denied=[f"{shown}/{prefix}:{port}"])
    matches = _number(address) & mask == base
    assert bool(rules.refusal(address, port, HERE)) == matches
    if other_port != port:
        assert not rules.refusal(address, other_port, HERE)


def _number(address: str) -> int:
    number: int = struct.unpack("!I", socket.inet_aton(address))[0]
    return number


def test_the_proxy_refuses_what_the_rules_deny(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    with listening() as listener:
        port = listener.getsockname()[1]
        rule = f"127.0.0.0/8:{port}"
        with proxy(denied_destinations=(rule,)) as server, connected(server.address) as client:
            client.sendall(asking(port))
            assert read_all(client) == REFUSED
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert caplog.messages[0].endswith(f'refused: 127.0.0.1:{port} is denied by the rule "{rule}"')


def test_each_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        name_server({"two.example": ["127.0.0.2", "127.0.0.3"]}) as names,
        listening(address="0.0.0.0") as listener,
    ):
        made = Resolver((names.address,))
        monkeypatch.setattr(socks4, "Resolver", lambda: made)
        with (
            proxy(denied_destinations=("127.0.0.2",)) as server,
            connected(server.address) as client,
        ):
            client.sendall(asking(listener.getsockname()[1], "0.0.0.1", name=b"two.example"))
            assert read_exactly(client, 8) == GRANTED
            target, _ = listener.accept()
            with target:
                assert target.getsockname()[0] == "127.0.0.3"


def test_a_client_of_another_address_cannot_reach_loopback() -> None:
    """A client that connects from this machine's own address is none on loopback."""
    own = own_address()
    with listening() as listener, proxy(listen=(own, 0)) as server:
        port = listener.getsockname()[1]
        with connected(server.address) as client:
            client.settimeout(WAIT_SECONDS)
            client.sendall(asking(port))
            assert read_all(client) == REFUSED
