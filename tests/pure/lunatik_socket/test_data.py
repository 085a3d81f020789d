# SPDX-License-Identifier: MIT
import gc
import sys
import weakref
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lunatik_socket import Data, layout

CONTENT = st.binary(min_size=1, max_size=24)


# --------------------------------------------------------------- making and indexing


def test_a_length_gives_zeros() -> None:
    assert bytes(Data(5)) == b"\0" * 5


@given(CONTENT)
def test_bytes_are_copied(content: bytes) -> None:
    source = bytearray(content)
    data = Data(source)
    source[0] ^= 0xFF
    assert bytes(data) == content
    assert list(data) == list(content)
    assert len(data) == len(content)
    assert bytes(Data(data)) == content


@given(st.lists(st.integers(), min_size=1))
def test_integers_are_taken_modulo_256(numbers: list[int]) -> None:
    assert list(Data(numbers)) == [number % 256 for number in numbers]


@pytest.mark.parametrize("nothing", [None, 0, [], (), b"", bytearray()])
def test_new_of_nothing_is_none(nothing: object) -> None:
    assert Data.new(nothing) is None


def test_new_of_something_is_a_data() -> None:
    made = Data.new([1, 2])
    assert made is not None
    assert bytes(made) == b"\1\2"


@pytest.mark.parametrize("nothing", [0, [], b""])
def test_an_empty_data_is_refused(nothing: Any) -> None:
    with pytest.raises(ValueError, match=r"^data can not be empty$"):
        Data(nothing)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^length must not be negative: -1$"):
        Data(-1)


@pytest.mark.parametrize("source", ["text", 1.5, None, {1: 2}])
def test_a_data_of_another_type_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match=r"^data must be made from .*, not "):
        Data(source)


def test_a_list_of_anything_but_integers_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^data must hold integers only, not str$"):
        Data([1, "2"])


def test_bytes_are_read_and_written_by_index() -> None:
    data = Data([1, 2, 3])
    data[0] = 257
    data[-1] = -1
    assert (data[0], data[1], data[-1]) == (1, 2, 255)


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_is_refused(index: int) -> None:
    data = Data(3)
    with pytest.raises(IndexError, match=f"^index {index} is outside of 3 bytes$"):
        data[index]
    with pytest.raises(IndexError, match=f"^index {index} is outside of 3 bytes$"):
        data[index] = 1


def test_index_and_byte_must_be_integers() -> None:
    data: Any = Data(3)
    with pytest.raises(TypeError, match=r"^index must be an integer, not str$"):
        data["0"]
    with pytest.raises(TypeError, match=r"^a byte must be an integer, not bytes$"):
        data[0] = b"1"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs Python 3.12 for __buffer__")
def test_a_data_is_bytes_like() -> None:
    assert memoryview(Data(b"abc")) == b"abc"  # type: ignore[arg-type]


def test_repr_names_the_length() -> None:
    assert repr(Data(3)) == "<lunatik_socket.Data of 3 bytes>"


# --------------------------------------------------------------- layouts, against big integers


@st.composite
def contents_and_fields(draw: st.DrawFn) -> tuple[bytes, int, int, str]:
    content = draw(CONTENT)
    length = draw(st.integers(1, min(64, 8 * len(content))))
    offset = draw(st.integers(0, 8 * len(content) - length))
    return content, offset, length, draw(st.sampled_from(["big", "net", "little", "host"]))


def expected(content: bytes, offset: int, length: int, endian: str) -> int:
    """Return the field, computed from one big integer and, for the byte order, a bit string."""
    bits = int.from_bytes(content, "big") >> (8 * len(content) - offset - length)
    text = format(bits % (1 << length), f"0{length}b")
    if endian == "little" or (endian == "host" and sys.byteorder == "little"):
        octets = [text[at : at + 8] for at in range(0, length, 8)]
        text = "".join(reversed(octets))
    return int(text, 2)


@given(contents_and_fields())
def test_reading_a_number_agrees_with_a_big_integer(case: tuple[bytes, int, int, str]) -> None:
    content, offset, length, endian = case
    data = Data(content).layout({"field": (offset, length, "number", endian)})
    assert data.field == expected(content, offset, length, endian)


@given(contents_and_fields(), st.integers())
def test_a_written_number_is_read_back_and_changes_no_other_bit(
    case: tuple[bytes, int, int, str], value: int
) -> None:
    content, offset, length, endian = case
    data = Data(content).layout({"field": (offset, length, endian)})
    data.field = value
    assert data.field == value % (1 << length)
    after = int.from_bytes(bytes(data), "big")
    mask = ((1 << length) - 1) << (8 * len(content) - offset - length)
    assert (after ^ int.from_bytes(content, "big")) & ~mask == 0


@given(CONTENT, st.integers(0, 30), st.integers(1, 30), st.binary(max_size=40))
def test_a_string_reads_as_a_slice_and_writes_its_start(
    content: bytes, offset: int, length: int, value: bytes
) -> None:
    data = Data(content).layout({"text": (offset, length, "s")})
    if offset + length > len(content):
        assert data.text is None
        data.text = value
        assert bytes(data) == content
    else:
        assert data.text == content[offset : offset + length]
        data.text = value
        new = value[:length]
        assert bytes(data) == content[:offset] + new + content[offset + len(new) :]


@given(CONTENT, st.integers(0, 300), st.integers(1, 80))
def test_a_number_outside_or_too_wide_reads_none_and_writes_nothing(
    content: bytes, offset: int, length: int
) -> None:
    assume(length > 64 or offset + length > 8 * len(content))
    data = Data(content).layout({"field": (offset, length)})
    assert data.field is None
    data.field = 1
    assert bytes(data) == content


def test_a_number_has_at_most_64_bits() -> None:
    data = Data(b"\xff" * 9).layout({"most": (3, 64), "more": (3, 65)})
    assert (data.most, data.more) == ((1 << 64) - 1, None)


def test_a_name_in_no_layout_reads_none_and_writes_nothing() -> None:
    data = Data(b"ab")
    assert data.field is None
    data.field = 1
    assert bytes(data) == b"ab"
    assert data.field is None


def test_names_of_python_protocols_are_not_fields() -> None:
    assert not hasattr(Data(1), "__array_interface__")


def test_a_field_takes_values_of_its_type_only() -> None:
    data = Data(8).layout({"number": (0, 8), "text": (1, 3, "string")})
    with pytest.raises(TypeError, match=r'^field "number" must be an integer, not str$'):
        data.number = "1"
    with pytest.raises(TypeError, match=r'^field "text" must be bytes, not str$'):
        data.text = "abc"


SAME = [
    (4, 12, "number", "little"),
    (4, 12, "n", "l"),
    (4, 12, "little"),
    (4, 12, "le"),
    [4, 12, None, "lit"],
    {"offset": 4, "length": 12, "type": "number", "endian": "little"},
    {"offset": 4, "length": 12, "endian": "le"},
]


@pytest.mark.parametrize("field", SAME)
def test_a_field_has_many_spellings(field: Any) -> None:
    assert layout({"f": field}) == layout({"f": SAME[0]})


@pytest.mark.parametrize(
    "field", [(0, 8), (0, 8, "n"), (0, 8, "number"), (0, 8, "net"), (0, 8, "be")]
)
def test_numbers_are_big_endian_by_default(field: Any) -> None:
    assert layout({"f": field})["f"] == (0, 8, False, "big")


def test_a_layout_serves_many_objects_and_layout_returns_the_object() -> None:
    shared = layout({"kind": (0, 8)})
    data = Data(b"\7")
    assert data.layout(shared) is data
    assert (data.kind, Data(b"\x08x").layout(shared).kind) == (7, 8)


BAD_FIELDS = [
    ((1,), ValueError, 'field "f" must be (offset, length'),
    ((1, 2, "n", "b", 5), ValueError, 'field "f" must be (offset, length'),
    ("ab", TypeError, 'field "f" must be a tuple or a mapping, not str'),
    (5, TypeError, 'field "f" must be a tuple or a mapping, not int'),
    ((-1, 8), ValueError, 'offset of field "f" must be at least 0, not -1'),
    ((0, 0), ValueError, 'length of field "f" must be at least 1, not 0'),
    (("0", 8), TypeError, 'offset of field "f" must be an integer, not str'),
    ({"offset": 0}, TypeError, 'length of field "f" must be an integer, not NoneType'),
    (
        {"offset": 0, "length": 1, "lenght": 1},
        ValueError,
        "field \"f\" has unknown keys ['lenght']",
    ),
    ((0, 8, "float"), ValueError, 'type of field "f" must be "number" or "string", not '),
    ((0, 8, "", "big"), ValueError, 'type of field "f" must be "number" or "string", not '),
    ((0, 8, "n", "middle"), ValueError, 'endian of field "f" must be "big", "net"'),
    ((0, 8, "n", 1), ValueError, 'endian of field "f" must be "big", "net"'),
]


@pytest.mark.parametrize(("field", "kind", "message"), BAD_FIELDS)
def test_a_wrong_field_is_named(field: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        layout({"f": field})
    assert str(caught.value).startswith(message)


def test_a_layout_is_a_mapping_of_names() -> None:
    with pytest.raises(TypeError, match=r"^layout must be a mapping of fields, not list$"):
        Data(1).layout([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^the name of a field must be a string, not 1$"):
        layout({1: (0, 8)})  # type: ignore[dict-item]


# --------------------------------------------------------------- segments


@given(CONTENT, st.data())
def test_a_segment_shares_the_memory(content: bytes, draw: st.DataObject) -> None:
    data = Data(content)
    offset = draw.draw(st.integers(0, len(content) - 1))
    length = draw.draw(st.none() | st.integers(1, len(content) - offset))
    part = data.segment(offset, length)
    end = len(content) if length is None else offset + length
    assert bytes(part) == content[offset:end]
    part[0] = part[0] + 1
    assert data[offset] == (content[offset] + 1) % 256
    data[offset] = 7
    assert part[0] == 7


def test_a_segment_outlives_its_parent_and_segments_nest() -> None:
    parent = Data(b"abcdef")
    gone = weakref.ref(parent)
    part = parent.segment(1).segment(1, 3)
    del parent
    gc.collect()
    assert gone() is None
    assert bytes(part) == b"cde"


def test_a_segment_has_a_layout_of_its_own() -> None:
    data = Data([1, 2]).layout({"field": (0, 8)})
    assert data.segment(1).field is None
    assert data.segment(1).layout({"field": (0, 8)}).field == 2
    assert data.field == 1


@pytest.mark.parametrize(
    ("offset", "length"), [(-1, 2), (7, None), (7, 0), (5, 2), (0, -1), (0, 7)]
)
def test_a_segment_outside_is_refused(offset: int, length: int | None) -> None:
    with pytest.raises(ValueError, match=r"^segment at .* long, is not inside 0 to 6 bytes$"):
        Data(6).segment(offset, length)


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (3, 0), (6, 0), (6, None)])
def test_a_segment_of_length_0_is_an_empty_object(offset: int, length: int | None) -> None:
    empty = Data(6).segment(offset, length).layout({"field": (0, 1), "text": (0, 1, "s")})
    assert (len(empty), bytes(empty), list(empty)) == (0, b"", [])
    assert (empty.field, empty.text) == (None, None)
    assert len(empty.segment(0, 0)) == len(empty.segment()) == 0
    assert Data.new(empty) is None


def test_the_bounds_of_a_segment_are_integers() -> None:
    with pytest.raises(TypeError, match=r"^offset must be an integer, not str$"):
        Data(6).segment("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^length must be an integer, not float$"):
        Data(6).segment(1, 2.0)  # type: ignore[arg-type]
