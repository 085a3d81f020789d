# SPDX-License-Identifier: MIT
"""The buffers of Lua scripts: compared with a model, and with arguments of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunatik_socket.fields import layout, read
from lunatik_socket.lua import State
from tests.pure.lunatik_socket.lua.scripts import CONNECTED, printed

MAX_INTEGER = (1 << 63) - 1


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("print(data.new(), data.new(0), data.new{}, data.new(''), 1)", "nil\tnil\tnil\tnil\t1"),
        ("print(#data.new(5), #data.new{1, 2}, #data.new('abc'), #data.new(3.0))", "5\t2\t3\t3"),
        ("print(tostring(data.new(3)) == '\\0\\0\\0')", "true"),
        ("print(tostring(data.new{65, 256 + 66, -189}), data.new{255}[1])", "ABC\t255"),
        ("print(tostring(data.new('a\\0\\xffb')) == 'a\\0\\xffb')", "true"),
        (
            "local d = data.new('abc') print(d[1], d[3], d[0], d[4], d[-1], d[1.5])",
            "97\t99\tnil\tnil\tnil\tnil",
        ),
        ("local d = data.new(2) d[1] = 257 d[2] = -1 print(d[1], d[2])", "1\t255"),
        ("local d = data.new('abc') print(table.unpack(d))", "97\t98\t99"),
        (
            "local d, s = data.new('ab'), 0 for i, b in ipairs(d) do s = s + i * b end print(s)",
            "293",
        ),
        (
            "local d, s = data.new('ab'), 0 for i, b in pairs(d) do s = s + i * b end print(s)",
            "293",
        ),
        ("print(getmetatable(data.new(1)))", "data"),
        # layouts
        ("local d = data.new('\\x45\\x01'):layout{v = {0, 4}, l = {4, 4}} print(d.v, d.l)", "4\t5"),
        ("local d = data.new('\\x12\\x34') print(d:layout({x = {0, 16}}) == d, d.x)", "true\t4660"),
        ("print(data.new('\\x12\\x34'):layout{x = {0, 16, 'le'}}.x)", "13330"),
        ("print(data.new('\\x12\\x34'):layout{x = {0, 16, 'number', 'little'}}.x)", "13330"),
        (
            "print(data.new('\\x12\\x34'):layout{x = {offset = 0, length = 16, endian = 'l'}}.x)",
            "13330",
        ),
        ("print(data.new('abcd'):layout{x = {1, 2, 's'}}.x)", "bc"),
        ("print(data.new('abcd'):layout{x = {offset = 1, length = 2, type = 'string'}}.x)", "bc"),
        ("print(data.new(('\\xff'):rep(8)):layout{x = {0, 64}}.x)", "-1"),
        ("print(data.new(('\\xff'):rep(8)):layout{x = {0, 63}}.x)", str(MAX_INTEGER)),
        ("local d = data.new(8):layout{x = {0, 64}} d.x = -2 print(d.x, d[8])", "-2\t254"),
        ("local d = data.new('abcd'):layout{x = {0, 3, 's'}} d.x = 'Z' print(tostring(d))", "Zbcd"),
        (
            "local d = data.new('abcd'):layout{x = {0, 2, 's'}} d.x = 'WXYZ' print(tostring(d))",
            "WXcd",
        ),
        (
            "local d = data.new(8):layout{far = {60, 8}, wide = {0, 65}, s = {7, 2, 's'}}"
            " print(d.far, d.wide, d.s, d.none)",
            "nil\tnil\tnil\tnil",
        ),
        (
            "local d = data.new(8):layout{far = {60, 8}, wide = {0, 65}, s = {7, 2, 's'}}"
            " d.far, d.wide, d.s, d.none = 1, 1, 'ab', 1 print(tostring(d) == ('\\0'):rep(8))",
            "true",
        ),
        (
            "local l = data.layout{x = {0, 8}} local a, b = data.new('a'), data.new('b')"
            " print(a:layout(l).x, b:layout(l).x)",
            "97\t98",
        ),
        # segments
        (
            "local d = data.new('abcdef') local s = d:segment(2, 3) s[1] = 90 d[4] = 89"
            " print(tostring(s), tostring(d))",
            "ZYe\tabZYef",
        ),
        (
            "local d = data.new('abc') print(#d:segment(), #d:segment(1), #d:segment(2, 1))",
            "3\t2\t1",
        ),
        ("local s = data.new('abc'):segment(1) collectgarbage() print(tostring(s))", "bc"),
        (
            "local d = data.new('abc'):layout{x = {0, 8}} print(d:segment(1).x)",
            "nil",
        ),
        ("local d = data.new(9) d:segment(3):segment(2, 2)[1] = 7 print(d[6])", "7"),
        # segments that are empty or outside
        ("local s = data.new('abc'):segment(0, 0) print(#s, tostring(s), s[1])", "0\t\tnil"),
        (
            "local d = data.new('abc') print(#d:segment(3), #d:segment(3, 0), #d:segment(1, 0))",
            "0\t0\t0",
        ),
        (
            "print(#data.new(3):segment(1, 0):segment(0, 0), #data.new(3):segment(3):segment())",
            "0\t0",
        ),
        ("local s = data.new(3):segment(0, 0):layout{x = {0, 1}} s.x = 1 print(s.x)", "nil"),
        (
            "local d = data.new('abc') print(d:segment(0, 4), d:segment(4), d:segment(4, 0),"
            " d:segment(-1, 1), d:segment(1, -1), d:segment(math.maxinteger, math.maxinteger))",
            "nil\tnil\tnil\tnil\tnil\tnil",
        ),
        # a numeric string is a number
        ("local d = data.new{'1', '0x10', 3} print(table.unpack(d))", "1\t16\t3"),
        ("local d = data.new(2) d[1] = '7' d[2] = ' 8 ' print(d[1], d[2])", "7\t8"),
        ("local d = data.new(2):layout{x = {'0', '16'}} d.x = '258' print(d.x, d[1])", "258\t1"),
        ("print(tostring(data.new('abcd'):segment('1', '2')))", "bc"),
        ("print(tostring(data.new('7')))", "7"),
    ],
)
def test_a_buffer_returns(code: str, line: str) -> None:
    assert printed(code) == [line]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("data.new, -1", "length must not be negative: -1"),
        ("data.new, 1.5", "length must be an integer, not number"),
        ("data.new, true", "data must be made from a length, a table or a string, not boolean"),
        ("data.new, {1, {}}", "data must hold integers only, not table at index 2"),
        ("data.layout", "layout must be a table, not nil"),
        ("data.layout, {x = 5}", 'field "x" must be a table, not integer'),
        ("data.layout, {[5] = {0, 8}}", "the name of a field must be a string, not integer"),
        ("data.layout, {x = {0}}", 'length of field "x" must be an integer, not nil'),
        ("data.layout, {x = {-1, 8}}", 'offset of field "x" must be at least 0, not -1'),
        ("data.layout, {x = {0, 0}}", 'length of field "x" must be at least 1, not 0'),
        ("data.layout, {x = {0, 8, 'q'}}", 'type of field "x" must be "number" or "string"'),
        ("data.layout, {x = {0, 8, 's', 'q'}}", 'endian of field "x" must be "big", "net"'),
        ("data.layout, {x = {0, 8, 5}}", 'type of field "x" must be a string, not integer'),
        ("data.layout, {x = {0, 8, ofset = 1}}", 'field "x" has an unknown key "ofset"'),
        (
            "data.layout, {x = {0, 8, 's', endian = 'le'}}",
            'field "x" has values both by position and by name',
        ),
        ("d.layout, d", "layout must be a table, not nil"),
        ("d.layout, {}, {}", "self must be a data object, not table: call d:layout()"),
        ("d.segment, d, 'x'", "offset must be an integer, not string"),
        ("function() d[4] = 1 end", "index 4 is outside of 1 to 3"),
        ("function() d[0] = 1 end", "index 0 is outside of 1 to 3"),
        ("function() d[1] = 'x' end", "a byte must be an integer, not string"),
        ("function() d[1] = 1.5 end", "a byte must be an integer, not number"),
        ("function() d.n = 'x' end", 'field "n" must be an integer, not string'),
        ("function() d.s = 5 end", 'field "s" must be a string, not integer'),
    ],
)
def test_a_wrong_argument_is_named_with_the_scripts_line(code: str, message: str) -> None:
    before = "d = data.new('abc'):layout{n = {0, 8}, s = {0, 1, 's'}}\n"
    (line,) = printed(f"{before}print(pcall({code}))")
    assert line.startswith(f"false\tscript:2: {message}")


@pytest.mark.parametrize("length", ["1 << 60", "math.maxinteger"])
def test_too_long_a_buffer_is_not_enough_memory(length: str) -> None:
    assert printed(f"print(pcall(data.new, {length}))") == ["false\tnot enough memory"]


# A buffer between two fences, which show a write outside of it.
FENCED = """
whole = data.new(FENCE .. CONTENT .. FENCE)
d = whole:segment(#FENCE, #CONTENT)
"""
FENCE = b"\xa5" * 16

fields = st.tuples(
    st.integers(0, 100),
    st.integers(1, 80),
    st.sampled_from(["number", "string"]),
    st.sampled_from(["big", "little", "net", "host"]),
)
integers = st.integers(-(1 << 63), MAX_INTEGER)


LITERALS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "nil",
    bool: lambda value: "true" if value else "false",
    int: lambda value: f"(0x{value & (1 << 64) - 1:x})",
    float: lambda value: {"inf": "1/0", "-inf": "-1/0", "nan": "0/0"}.get(str(value), repr(value)),
    bytes: lambda value: '"' + "".join(f"\\x{octet:02x}" for octet in value) + '"',
    str: lambda value: literal(value.encode("utf-8", "surrogatepass")),
    list: lambda value: "{" + ", ".join(map(literal, value)) + "}",
    dict: lambda value: "{" + ", ".join(f"{k} = {literal(v)}" for k, v in value.items()) + "}",
}


def literal(value: object) -> str:
    """Return the Lua expression of a value."""
    return LITERALS[type(value)](value)


def test_literals_are_read_back_unchanged() -> None:
    values = [None, True, -1, MAX_INTEGER, 1.5, b"a\x00\xff"]
    assert printed(f"print(table.unpack({literal(values)}, 1, 6))") == [
        f"nil\ttrue\t-1\t{MAX_INTEGER}\t1.5\ta\x00\xff"
    ]


def fenced(content: bytes, code: str) -> list[str]:
    """Run code on a buffer `d`, and check that no byte before or after it changed."""
    lines: list[str] = []
    before = FENCED.replace("FENCE", literal(FENCE)).replace("CONTENT", literal(content))
    after = "print(tostring(whole))"
    State(log=lines.append).run(f"{before}\n{code}\n{after}".encode())
    whole = lines.pop().encode("latin-1")
    assert len(whole) == len(content) + 2 * len(FENCE)
    assert (whole[:16], whole[-16:]) == (FENCE, FENCE)
    lines.append(whole[16:-16].decode("latin-1"))
    return lines


@settings(max_examples=60)
@given(content=st.binary(min_size=1, max_size=12), field=fields, value=integers)
def test_fields_agree_with_a_model(
    content: bytes, field: tuple[int, int, str, str], value: int
) -> None:
    offset, length, kind, _ = field
    written: object = value if kind == "number" else value.to_bytes(8, "big", signed=True)
    code = f"d:layout{{x = {literal(list(field))}}} print(d.x) d.x = {literal(written)} print(d.x)"
    before, after, now = (text.encode("latin-1") for text in fenced(content, code))

    model = layout({"x": field})["x"]
    assert before == shown(read(memoryview(content), model))
    assert after == shown(read(memoryview(now), model))
    end = offset + length
    if kind == "number" and length <= 64 and end <= 8 * len(content):
        assert read(memoryview(now), model) == value % (1 << length)
        outside = ~((1 << length) - 1 << (8 * len(content) - end))
        assert int.from_bytes(now, "big") & outside == int.from_bytes(content, "big") & outside
    elif kind == "string" and end <= len(content):
        text = value.to_bytes(8, "big", signed=True)[:length]
        assert now == content[:offset] + text + content[offset + len(text) :]
    else:
        assert (before, now) == (b"nil", content)


def shown(value: int | bytes | None) -> bytes:
    if isinstance(value, int):
        return str(value - (1 << 64) if value > MAX_INTEGER else value).encode()
    return b"nil" if value is None else value


@settings(max_examples=60)
@given(
    content=st.binary(min_size=1, max_size=12),
    cuts=st.lists(st.tuples(integers | st.integers(-2, 14), integers | st.integers(-2, 14))),
    index=integers | st.integers(-1, 13),
    value=integers,
)
def test_segments_are_parts_of_the_same_memory(
    content: bytes, cuts: list[tuple[int, int]], index: int, value: int
) -> None:
    start, size = 0, len(content)
    lines = []
    for offset, length in cuts:
        lines.append(f"part = d:segment({literal(offset)}, {literal(length)})")
        lines.append("print(part ~= nil) d = part or d")
    lines.append(f"print(pcall(function() d[{literal(index)}] = {literal(value)} end))")
    *results, wrote, now = fenced(content, "\n".join(lines))

    for (offset, length), result in zip(cuts, results, strict=True):
        inside = offset >= 0 and length >= 0 and offset + length <= size
        assert result == ("true" if inside else "false")
        if inside:
            start, size = start + offset, length
    expected = bytearray(content)
    if 1 <= index <= size:
        expected[start + index - 1] = value % 256
    assert (wrote == "true") is (1 <= index <= size)
    assert now.encode("latin-1") == expected


anything = st.recursive(
    st.none()
    | st.booleans()
    | integers
    | st.floats()
    | st.binary(max_size=8)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "addr", "port", "iov_len", "lov_len", "flags", "offset", "length", "type"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
CALLS = [
    "one.sendmsg, one",
    "two.recvmsg, two",
    "one.send, one",
    "two.recv, two",
    "data.new",
    "data.layout",
    "d.layout, d",
    "d.segment, d",
    "one.bind, one",
    "one.setsockopt, one",
    "socket.poll",
    "socket.new",
]


# Receives do not wait: the fuzzer may ask for more data than is sent.
@settings(max_examples=150)
@given(call=st.sampled_from(CALLS), arguments=st.lists(anything, max_size=3))
def test_any_argument_is_taken_or_refused(call: str, arguments: list[object]) -> None:
    if call.startswith("two."):
        arguments = [*[*arguments, None][:1], "D"]
    passed = ", ".join([call, *map(literal, arguments)])
    script = f"""{CONNECTED}
    d = data.new(9)
    local ok, cause = pcall({passed})
    assert(ok or math.type(cause) == "integer" or cause:match("^script:%d+: ")
      or cause == "not enough memory", tostring(cause))
    print(#d, ok or cause)
    """
    (line,) = printed(script)
    assert line.startswith("9\t")
