# SPDX-License-Identifier: MIT
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunatik_socket import message

IPS = st.ip_addresses(v=4).map(str)
PORTS = st.integers(1, 65535)


@given(st.integers(1, (1 << 63) - 1), st.sampled_from(["iov_len", "lov_len"]))
def test_the_length_has_two_spellings(length: int, key: str) -> None:
    assert message.length_wanted({key: length}) == length


def test_iov_len_wins_over_lov_len() -> None:
    assert message.length_wanted({"lov_len": 1, "iov_len": 2}) == 2


def test_a_missing_length_has_the_error_text_of_the_library() -> None:
    with pytest.raises(ValueError, match=r"^'iov_len' can not be empty$"):
        message.length_wanted({})


@pytest.mark.parametrize("length", [0, -1, 1 << 63])
def test_a_length_must_be_positive(length: int) -> None:
    with pytest.raises(
        ValueError, match=f"^'iov_len' must be positive and below 2\\^63, not {length}"
    ):
        message.length_wanted({"iov_len": length})


@pytest.mark.parametrize("length", ["5", 5.0, [5]])
def test_a_length_must_be_an_integer(length: object) -> None:
    with pytest.raises(TypeError, match=r"^'iov_len' must be an integer, not "):
        message.length_wanted({"iov_len": length})


@given(IPS, PORTS)
def test_a_destination_may_be_a_pair_or_have_names(ip: str, port: int) -> None:
    for name in ({"addr": ip, "port": port}, (ip, port), [ip, port]):
        assert message.destination({"name": name}) == (ip, port)


def test_no_destination_is_none() -> None:
    assert message.destination({}) is None


@pytest.mark.parametrize(
    ("name", "key"), [({"addr": 1}, "port"), ({"port": 1}, "addr"), ({}, "addr")]
)
def test_an_incomplete_destination_names_the_missing_part(name: dict[str, int], key: str) -> None:
    with pytest.raises(ValueError, match=f"^'name' can not be without '{key}'$"):
        message.destination({"name": name})


@pytest.mark.parametrize("name", ["127.0.0.1", b"ab", 5, ("127.0.0.1",), ("127.0.0.1", 1, 2)])
def test_a_destination_of_another_shape_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match=r"^'name' must be \{addr, port\} or \(ip, port\), not "):
        message.destination({"name": name})


@pytest.mark.parametrize("msghdr", [None, 5, "D", [("iov_len", 5)]])
def test_a_msghdr_is_a_dict(msghdr: object) -> None:
    with pytest.raises(TypeError, match=f"^msghdr must be a dict, not {type(msghdr).__name__}$"):
        message.checked(msghdr)


@given(st.integers(1, 9), st.integers(0, 9), IPS, PORTS)
def test_the_results_are_written_into_the_same_dict(
    length: int, flags: int, ip: str, port: int
) -> None:
    msghdr: dict[str, Any] = {"mine": 1, "name": "stale"}
    assert message.describe(msghdr, length, flags, (ip, port)) is msghdr
    wanted = {"iov_len": length, "flags": flags, "name": {"addr": ip, "port": port}}
    assert msghdr == {"mine": 1, **wanted}


def test_without_a_source_an_old_name_is_removed() -> None:
    assert message.describe({"name": 1}, 5, 0, None) == {"iov_len": 5, "flags": 0}


ANYTHING: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["addr", "port", "x"]) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(["iov_len", "lov_len", "name", "flags", "other"])


@given(st.dictionaries(KEYS, ANYTHING))
def test_any_msghdr_is_understood_or_refused(msghdr: dict[str, Any]) -> None:
    described: list[str] = []
    for parse in (message.length_wanted, message.destination, message.send_flags):
        try:
            found = parse(msghdr)
        except (TypeError, ValueError) as error:
            described.append(str(error))
            continue
        match found:
            case None:
                assert parse is message.destination
            case int():
                assert 0 <= found < 1 << 63
            case (str(), int(port)):
                assert 1 <= port <= 65535
            case _:
                pytest.fail(f"{parse.__name__} gave {found!r}")
    assert all(described)
