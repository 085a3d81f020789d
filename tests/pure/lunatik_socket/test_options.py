# SPDX-License-Identifier: MIT
import re
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lunatik_socket
from lunatik_socket import options
from lunatik_socket.options import find_option, option_value, pack_linger, unpack_linger

# The numbers of asm-generic/socket.h and linux/tcp.h.
NUMBERS = {
    ("s", "b"): (1, 6, "SO_BROADCAST"),
    ("s", "d"): (1, 1, "SO_DEBUG"),
    ("s", "dt"): (1, 5, "SO_DONTROUTE"),
    ("s", "e"): (1, 4, "SO_ERROR"),
    ("s", "k"): (1, 9, "SO_KEEPALIVE"),
    ("s", "l"): (1, 13, "SO_LINGER"),
    ("s", "n"): (1, 11, "SO_NO_CHECK"),
    ("s", "o"): (1, 10, "SO_OOBINLINE"),
    ("s", "p"): (1, 12, "SO_PRIORITY"),
    ("s", "r"): (1, 8, "SO_RCVBUF"),
    ("s", "rf"): (1, 33, "SO_RCVBUFFORCE"),
    ("s", "ra"): (1, 2, "SO_REUSEADDR"),
    ("s", "rp"): (1, 15, "SO_REUSEPORT"),
    ("s", "s"): (1, 7, "SO_SNDBUF"),
    ("s", "sf"): (1, 32, "SO_SNDBUFFORCE"),
    ("s", "t"): (1, 3, "SO_TYPE"),
    ("t", "nd"): (6, 1, "TCP_NODELAY"),
    ("t", "c"): (6, 3, "TCP_CORK"),
    ("t", "ki"): (6, 4, "TCP_KEEPIDLE"),
    ("t", "kv"): (6, 5, "TCP_KEEPINTVL"),
    ("t", "kc"): (6, 6, "TCP_KEEPCNT"),
    ("t", "ut"): (6, 18, "TCP_USER_TIMEOUT"),
    ("t", "q"): (6, 12, "TCP_QUICKACK"),
    ("t", "da"): (6, 9, "TCP_DEFER_ACCEPT"),
    ("t", "f"): (6, 23, "TCP_FASTOPEN"),
}


@pytest.mark.parametrize(("level", "name"), NUMBERS)
def test_an_option_has_the_numbers_of_the_kernel(level: str, name: str) -> None:
    option = find_option(level, name)
    assert (option.level, option.number, options.optname[name]) == NUMBERS[level, name]
    assert option.is_linger == (name == "l")


def test_all_names_are_listed() -> None:
    assert set(lunatik_socket.optname) == {name for _, name in NUMBERS}
    assert dict(lunatik_socket.level) == {
        "s": "SOL_SOCKET",
        "t": "IPPROTO_TCP",
        "u": "IPPROTO_UDP",
        "r": "IPPROTO_RAW",
        "i": "IPPROTO_IP",
    }


def test_the_names_are_read_only() -> None:
    with pytest.raises(TypeError, match=r"does not support item assignment"):
        lunatik_socket.optname["x"] = "SO_X"  # type: ignore[index]


@given(st.text(max_size=3) | st.none() | st.integers(), st.text(max_size=3) | st.just(["b"]))
def test_any_other_name_is_refused_and_the_known_ones_listed(level: object, name: object) -> None:
    known = level in ("s", "t", "u", "r", "i")
    if known and isinstance(name, str) and (level, name) in NUMBERS:
        return
    what = "option" if known else "level"
    with pytest.raises(ValueError, match=f"^invalid {what} name "):
        find_option(level, name)


@pytest.mark.parametrize("level", ["u", "r", "i"])
def test_the_levels_without_options_say_so(level: str) -> None:
    message = f"invalid option name 'b' of level '{level}': the level has none"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        find_option(level, "b")


@given(st.integers())
def test_a_value_fits_a_c_int(value: int) -> None:
    if -(1 << 31) <= value < 1 << 31:
        assert option_value(value) == value
    else:
        with pytest.raises(ValueError, match=f"^val out of range: {value} "):
            option_value(value)


@pytest.mark.parametrize("value", [None, "1", 1.0, (1, 5)])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=f"^val must be an integer, not {type(value).__name__}$"):
        option_value(value)


C_INTS = st.integers(-(1 << 31), (1 << 31) - 1)


@given(C_INTS, C_INTS)
def test_linger_is_packed_as_two_c_ints(on: int, seconds: int) -> None:
    assert pack_linger([on, seconds]) == struct.pack("=ii", on, seconds)
    assert unpack_linger(pack_linger((on, seconds))) == (on, seconds)


@pytest.mark.parametrize("value", [1, (1,), (1, 2, 3), {1, 2}])
def test_linger_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r'^val of option "l" must be \(on, seconds\), not '):
        pack_linger(value)


@pytest.mark.parametrize("name", ["inet", "i"])
def test_families(name: str) -> None:
    assert options.family_number(name) == socket.AF_INET


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("tcp", socket.SOCK_STREAM),
        ("t", socket.SOCK_STREAM),
        ("udp", socket.SOCK_DGRAM),
        ("u", socket.SOCK_DGRAM),
    ],
)
def test_types(name: str, number: int) -> None:
    assert options.type_number(name) == number


@given(st.text(max_size=5) | st.integers() | st.none() | st.just(["i"]))
def test_any_other_family_or_type_is_refused(name: object) -> None:
    if name not in ("inet", "i"):
        with pytest.raises(ValueError, match=r'^invalid family name .*: must be "inet" or "i"$'):
            options.family_number(name)
    if name not in ("tcp", "t", "udp", "u"):
        with pytest.raises(ValueError, match=r"^invalid type name .*: must be "):
            options.type_number(name)
