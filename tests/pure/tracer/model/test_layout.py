# SPDX-License-Identifier: MIT
"""Layouts of maps' keys and values, from ctypes types as bcc makes them."""

import ctypes
import json

import pytest

from tracer.model.layout import VALUE, Field, Layout, MapLayout


class Call(ctypes.Structure):
    """Numbers of several sizes, arrays, and padding between them."""

    _fields_ = (
        ("start_ns", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("probe", ctypes.c_uint8),
        ("slots", ctypes.c_uint64 * 3),
        ("comm", ctypes.c_char * 16),
    )


CALL = Layout.of(Call)


def test_fields_are_where_ctypes_has_them() -> None:
    assert CALL.size == ctypes.sizeof(Call) == 56
    assert CALL.fields == (
        Field("start_ns", 0, 8),
        Field("number", 8, 4),
        Field("probe", 12, 1),
        Field("slots", 16, 8, 3),
        Field("comm", 40, 1, 16),
    )


def test_a_plain_number_has_one_field() -> None:
    assert Layout.of(ctypes.c_uint32) == Layout(4, (Field(VALUE, 0, 4),))


def test_ctypes_reads_the_packed_values() -> None:
    raw = CALL.pack(number=0xFFFFFFFF, start_ns=23, comm=b"python")
    call = Call.from_buffer_copy(raw)
    assert (call.start_ns, call.number, call.probe, call.comm) == (23, 0xFFFFFFFF, 0, b"python")
    assert CALL.number("number", raw) == 0xFFFFFFFF
    assert CALL.number("start_ns", memoryview(raw)) == 23


def test_words_are_the_field_in_a_view_of_64_bit_numbers() -> None:
    raw = bytes(Call(slots=(5, 6, 7)))
    view = memoryview(raw).cast("Q")
    assert list(view[CALL["slots"].words]) == [5, 6, 7]
    for name in ("number", "comm"):
        with pytest.raises(ValueError, match=f'"{name}" is not of 64-bit numbers'):
            CALL[name].words  # noqa: B018


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError):
        CALL.pack(probe=256)
    with pytest.raises(ValueError, match='"comm" has 16 bytes, not 17'):
        CALL.pack(comm=bytes(17))
    with pytest.raises(KeyError, match="tid"):
        CALL.pack(tid=1)


def test_json_keeps_a_layout() -> None:
    layout = MapLayout(Layout.of(ctypes.c_uint32), CALL)
    assert MapLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
