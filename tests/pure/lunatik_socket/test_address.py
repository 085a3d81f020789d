# SPDX-License-Identifier: MIT
import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunatik_socket.address import endpoint, ip_string, port_number, shown


@given(st.integers(0, 0xFFFFFFFF))
def test_an_integer_and_its_dotted_string_are_one_address(number: int) -> None:
    dotted = str(ipaddress.IPv4Address(number))
    assert ip_string(number) == dotted
    assert ip_string(dotted) == dotted


@given(st.text(alphabet="0123456789.x: \0", max_size=16) | st.text(max_size=16))
def test_a_string_is_an_address_if_the_ipaddress_module_accepts_it(text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        with pytest.raises(ValueError, match=r'^invalid address .*: must be like "127\.0\.0\.1"'):
            ip_string(text)
    else:
        assert ip_string(text) == text


@pytest.mark.parametrize("ip", [-1, 1 << 32])
def test_an_integer_beyond_32_bits_is_out_of_range(ip: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"address out of range: {ip:#x} (must be")):
        ip_string(ip)


@pytest.mark.parametrize("ip", [None, 1.5, b"127.0.0.1", ("127.0.0.1",)])
def test_an_address_of_another_type_is_refused(ip: object) -> None:
    name = type(ip).__name__
    with pytest.raises(TypeError, match=f"^address must be a string or an integer, not {name}$"):
        ip_string(ip)


@given(st.integers(), st.sampled_from([0, 1]))
def test_a_port_lies_between_the_lowest_allowed_and_65535(port: int, lowest: int) -> None:
    if port in range(lowest, 65536):
        assert port_number(port, lowest) == port
    else:
        message = f"^Port number out of range: {port} \\(must be {lowest} to 65535\\)$"
        with pytest.raises(ValueError, match=message):
            port_number(port, lowest)


@pytest.mark.parametrize("port", [None, "80", 80.0])
def test_a_port_of_another_type_is_refused(port: object) -> None:
    with pytest.raises(TypeError, match=f"^port must be an integer, not {type(port).__name__}$"):
        port_number(port)


def test_an_endpoint_is_checked_and_shown_with_a_colon() -> None:
    assert endpoint(0x7F000001, 80) == ("127.0.0.1", 80)
    assert shown(("127.0.0.1", 80)) == "127.0.0.1:80"
