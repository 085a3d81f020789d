# SPDX-License-Identifier: MIT
"""The socket calls from Lua: values, errors as codes, wrong arguments as messages."""

from __future__ import annotations

import errno

import pytest

from lunatik_socket import level, optname
from tests.pure.lunatik_socket.lua.scripts import CONNECTED, printed

LINE = CONNECTED.count("\n") + 2  # the first line after it


def results(code: str) -> str:
    """Return the one line that the code prints after the sockets are made."""
    (line,) = printed(f"{CONNECTED}\n{code}")
    return line


@pytest.mark.parametrize(
    ("code", "line"),
    [
        # names and connections
        ("print(select('#', one:connect(two:getsockname())))", "0"),
        (
            "local ip, port = listener:getsockname() print(ip, math.type(port))",
            "127.0.0.1\tinteger",
        ),
        ("print(select(2, client:getpeername()) == select(2, listener:getsockname()))", "true"),
        ("local s = socket.new('inet', 'udp') print(select('#', s:bind(0x7f000001, 0)))", "0"),
        ("print(select('#', listener:listen(5)), select('#', client:close()))", "0\t0"),
        ("client:close() print(select('#', client:close()))", "0"),
        ("print(tostring(client):match('^luasocket: '))", "luasocket: "),
        ("do local c <close> = client end print(select(2, pcall(client.recv, client, 1)))", "-9"),
        # bytes
        ("client:send{1, 258, -1} print(table.unpack((accepted:recv(9))))", "1\t2\t255"),
        ("client:send{1, 2} print(select(2, accepted:recv(9.0)))", "2"),
        ("print(client:send(data.new('abc')))", "3"),
        ("print(client:send(data.new('abcdef'):segment(2, 3)))", "3"),
        ("client:close() local t, n = accepted:recv(9) print(#t, n)", "0\t0"),
        (
            "client:send{65, 66} local d = data.new(4) local e, n = accepted:recv(d)"
            " print(rawequal(d, e), n, d[1], d[2], d[3])",
            "true\t2\t65\t66\t0",
        ),
        (
            "local d = data.new(6) client:send{65, 66} accepted:recv(d:segment(3))"
            " print(tostring(d):byte(1, -1))",
            "0\t0\t0\t65\t66\t0",
        ),
        (
            "local big = {} for i = 1, 9999 do big[i] = i end client:send(big)"
            " local got = accepted:recv(9999, 'W') print(#got, got[4096], got[4097], got[9999])",
            f"9999\t{4096 % 256}\t{4097 % 256}\t{9999 % 256}",
        ),
        # messages
        ("print(one:sendmsg({}, {1, 2, 3}))", "3"),
        (
            "local s = socket.new('i', 'u') local ip, port = two:getsockname()"
            " print(s:sendmsg({name = {addr = ip, port = port}}, {1}),"
            " s:sendmsg({name = {ip, port}}, data.new(2)))",
            "1\t2",
        ),
        (
            "one:send{7, 8} local h = {iov_len = 5, mine = 1} local d, n, g = two:recvmsg(h)"
            " print(#d, n, rawequal(h, g), h.iov_len, h.flags, h.mine, h.name.addr,"
            " h.name.port == select(2, one:getsockname()))",
            "2\t2\ttrue\t5\t0\t1\t127.0.0.1\ttrue",
        ),
        ("one:send{7, 8} print((select(2, two:recvmsg({lov_len = 5}))))", "2"),
        ("one:send{7, 8} local _, n, h = two:recvmsg{iov_len = 1} print(n, h.flags)", "1\t32"),
        ("one:send{7, 8} print((select(2, two:recvmsg({iov_len = 1}, 'T'))))", "2"),
        (
            "one:send{7, 8} local d, h = data.new(3), {} local e, n, g = two:recvmsg(h, d)"
            " print(rawequal(d, e), n, rawequal(h, g), h.iov_len, d[2])",
            "true\t2\ttrue\t3\t8",
        ),
        (
            "client:send{1} local _, _, h = accepted:recvmsg{iov_len = 1}"
            " print(h.name.port == select(2, client:getsockname()))",
            "true",
        ),
        ("client:close() local d, n = accepted:recvmsg{iov_len = 9} print(#d, n)", "0\t0"),
        # options
        ("print(client:getsockopt('s', 't'), one:getsockopt('s', 't'))", "1\t2"),
        ("client:setsockopt('s', 'l', {1, 5}) print(client:getsockopt('s', 'l'))", "1\t5"),
        ("client:setsockopt('s', 'l', 1, 6) print(client:getsockopt('s', 'l'))", "1\t6"),
        ("client:setsockopt('t', 'nd', 1) print(client:getsockopt('t', 'nd') ~= 0)", "true"),
        # waiting
        (
            "one:send{1} local p = socket.poll{accepted, two}"
            " local i, s = p:select() print(i, s == two)",
            "1\ttrue",
        ),
        ("print(socket.poll{two}:select(1))", "nil"),
        (
            "client:send{1} one:send{1} local p, seen = socket.poll{accepted, two}, {}"
            " for _ = 1, 6 do local i = p:select() seen[i] = (seen[i] or 0) + 1 end"
            " print(seen[0], seen[1])",
            "3\t3",
        ),
        # a numeric string is a number
        (
            "local s = socket.new('i', 't') local ip, port = listener:getsockname()"
            " s:connect(ip, tostring(port)) print(select(2, s:getpeername()) == port)",
            "true",
        ),
        ("listener:listen('5') print(socket.new('i', 'u'):bind('127.0.0.1', '0'))", ""),
        (
            "print(client:send{'1', '258', ' 3 ', '4e0'}, table.unpack((accepted:recv('9'))))",
            "4\t1\t2\t3\t4",
        ),
        ("one:send({7, 8}, '64') print((select(2, two:recvmsg({iov_len = '5'}, '64'))))", "2"),
        (
            "local s = socket.new('i', 'u') local ip, port = two:getsockname()"
            " print(s:sendmsg({name = {ip, tostring(port)}, flags = '0x40'}, {1}))",
            "1",
        ),
        ("client:setsockopt('s', 'l', {'1', '5'}) print(client:getsockopt('s', 'l'))", "1\t5"),
        ("client:setsockopt('t', 'nd', '1') print(client:getsockopt('t', 'nd') ~= 0)", "true"),
        ("print(socket.poll{two}:select('1'))", "nil"),
        # coroutines and metatables
        (
            "local co = coroutine.wrap(function() coroutine.yield(client:send{1})"
            " return accepted:recv(5)[1] end) print(co(), co())",
            "1\t1",
        ),
        ("print(getmetatable(client), getmetatable(socket.poll{client}))", "luasocket\tlpoll"),
    ],
)
def test_a_call_returns(code: str, line: str) -> None:
    assert results(code) == line


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("client.connect, socket.new('i', 't'), '127.0.0.1', 1", "ECONNREFUSED"),
        ("client.bind, client, '127.0.0.1', 0", "EINVAL"),
        ("two.bind, socket.new('i', 'u'), two:getsockname()", "EADDRINUSE"),
        ("client.bind, socket.new('i', 't'), '192.0.2.1', 0", "EADDRNOTAVAIL"),
        ("client.listen, one, 5", "EOPNOTSUPP"),
        ("listener.accept, listener, 'D'", "EAGAIN"),
        ("client.recv, client, 5, 'D'", "EAGAIN"),
        ("client.recv, client, data.new(5), 'D'", "EAGAIN"),
        ("client.recvmsg, client, {iov_len = 5}, 'D'", "EAGAIN"),
        ("client.recvmsg, client, {}, data.new(5), 'D'", "EAGAIN"),
        ("listener.recv, listener, data.new(5)", "ENOTCONN"),
        ("two.send, two, {1}", "EDESTADDRREQ"),
        ("one.send, one, data.new(70000)", "EMSGSIZE"),
        ("listener.send, listener, data.new(1)", "EPIPE"),
        ("listener.getpeername, listener", "ENOTCONN"),
        ("client.setsockopt, client, 's', 't', 1", "ENOPROTOOPT"),
    ],
)
def test_an_error_of_the_kernel_is_a_negative_code(code: str, name: str) -> None:
    assert results(f"print(pcall({code}))") == f"false\t{-getattr(errno, name)}"


CLOSED_CALLS = [
    "bind, one, '127.0.0.1', 0",
    "listen, one, 1",
    "accept, one",
    "connect, one, '127.0.0.1', 1",
    "send, one, {1}",
    "send, one, data.new(1)",
    "recv, one, 1",
    "recv, one, data.new(1)",
    "sendmsg, one, {}, {1}",
    "recvmsg, one, {iov_len = 1}",
    "recvmsg, one, {}, data.new(1)",
    "getsockname, one",
    "getpeername, one",
    "getsockopt, one, 's', 'e'",
    "setsockopt, one, 's', 'k', 1",
]


@pytest.mark.parametrize("call", CLOSED_CALLS)
def test_a_closed_socket_is_ebadf(call: str) -> None:
    assert results(f"one:close() print(pcall(one.{call}))") == "false\t-9"


def test_a_closed_member_is_ebadf() -> None:
    assert results("local p = socket.poll{one, two} one:close() print(pcall(p.select, p))") == (
        "false\t-9"
    )
    assert results("one:close() print(pcall(socket.poll, {one}))") == "false\t-9"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("socket.new", "invalid family name nil: must be a string"),
        ("socket.new, 'x', 'tcp'", 'invalid family name \'x\': must be "inet" or "i"'),
        ("socket.new, 'i'", "invalid type name nil: must be a string"),
        ("socket.new, 'i', 'x'", 'invalid type name \'x\': must be "tcp", "t", "udp" or "u"'),
        ("one.bind, one", "address must be a string or an integer, not nil"),
        (
            "one.bind, one, 'localhost', 1",
            "invalid address 'localhost': must be like \"127.0.0.1\"",
        ),
        ("one.bind, one, -1, 1", "address out of range: -0x1 (must be 0 to 0xffffffff)"),
        ("one.bind, one, 1.5, 1", "address must be a string or an integer, not number"),
        ("one.bind, one, '127.0.0.1'", "port must be an integer, not nil"),
        ("one.bind, one, '127.0.0.1', 'http'", "port must be an integer, not string"),
        ("one.bind, one, '127.0.0.1', '80.5'", "port must be an integer, not string"),
        ("one.bind, one, '80', 0", "invalid address '80': must be like \"127.0.0.1\""),
        ("one.bind, one, '127.0.0.1', true", "port must be an integer, not boolean"),
        (
            "one.bind, one, '127.0.0.1', 65536",
            "Port number out of range: 65536 (must be 0 to 65535)",
        ),
        (
            "one.connect, one, '127.0.0.1', 0",
            "Port number out of range: 0 (must be 1 to 65535)",
        ),
        (
            "one.connect, one, '127.0.0.1', 1, 'X'",
            "invalid flags name 'X': letters are D M N O P T W",
        ),
        ("listener.accept, listener, {}", "flags must be an integer or a string, not table"),
        ("listener.listen, listener, 0", "backlog must be positive and below 2^31, not 0"),
        ("listener.listen, listener", "backlog must be an integer, not nil"),
        ("one.send, one", "data must be a table of integers or a data object, not nil"),
        ("one.send, one, 'x'", "data must be a table of integers or a data object, not string"),
        ("one.send, one, {1, 'x'}", "data must hold integers only, not string at index 2"),
        ("one.send, one, {0.5}", "data must hold integers only, not number at index 1"),
        ("one.send, one, {1}, -1", "flags out of range: -1 (must be 0 to 0x7fffffff)"),
        ("one.sendmsg, one", "msghdr must be a table, not nil"),
        ("one.sendmsg, one, {}", "data can not be empty"),
        ("one.sendmsg, one, {}, {}", "data can not be empty"),
        ("one.sendmsg, one, {}, data.new(1):segment(0, 0)", "data can not be empty"),
        ("one.send, one, {}", "data can not be empty"),
        ("one.send, one, {}, 'D'", "data can not be empty"),
        ("one.send, one, data.new(1):segment(0, 0)", "data can not be empty"),
        ("one.send, one, data.new(1):segment(1), 'D'", "data can not be empty"),
        ("two.recv, two, data.new(1):segment(0, 0)", "buffer can not be empty"),
        ("two.recv, two, data.new(1):segment(0, 0), 'D'", "buffer can not be empty"),
        ("two.recvmsg, two, {}, data.new(1):segment(0, 0)", "buffer can not be empty"),
        ("one.sendmsg, one, {name = 'x'}, {1}", "'name' must be a table, not string"),
        ("one.sendmsg, one, {name = {}}, {1}", "'name' can not be without 'addr'"),
        ("one.sendmsg, one, {name = {addr = 1}}, {1}", "'name' can not be without 'port'"),
        (
            "one.sendmsg, one, {name = {1, 0}}, {1}",
            "Port number out of range: 0 (must be 1 to 65535)",
        ),
        ("one.recv, one", "recv needs a size or a data object, not nil"),
        ("one.recv, one, {}", "recv needs a size or a data object, not a table"),
        ("one.recv, one, one", "recv needs a size or a data object, not a table"),
        ("one.recv, one, 0", "size must be positive and below 2^63, not 0"),
        ("one.recv, one, 1.5", "size must be an integer, not number"),
        ("one.recvmsg, one", "msghdr must be a table, not nil"),
        ("one.recvmsg, one, {}", "'iov_len' can not be empty"),
        ("one.recvmsg, one, {iov_len = -1}", "'iov_len' must be positive and below 2^63, not -1"),
        ("one.recvmsg, one, {iov_len = 'x'}", "'iov_len' must be an integer, not string"),
        ("one.recvmsg, one, {}, {}", "buffer must be a data object, not table"),
        ("one.getsockopt, one", "invalid level name nil: must be a string"),
        ("one.getsockopt, one, 'x', 'r'", "invalid level name 'x': must be one of s t u r i"),
        (
            "one.getsockopt, one, 'u', 'r'",
            "invalid option name 'r' of level 'u': the level has none",
        ),
        ("one.setsockopt, one, 's', 'r'", "val must be an integer, not nil"),
        (
            "one.setsockopt, one, 's', 'r', 1 << 40",
            f"val out of range: {1 << 40} (must fit 32 bits, signed)",
        ),
        ("one.setsockopt, one, 's', 'l', {1, 'x'}", "seconds must be an integer, not string"),
        ("socket.poll", "sockets must be a table, not nil"),
        ("socket.poll, {}", "sockets can not be empty"),
        ("socket.poll, {5}", "sockets must hold sockets only, not integer"),
        ("socket.poll, {one, one}", "sockets must not hold a socket twice"),
        ("one.send, {1}", "self must be a socket, not table: call sock:send()"),
        ("one.send, nil, data.new(1)", "self must be a socket, not nil: call sock:send()"),
        (
            "one.recv, data.new(1), data.new(1)",
            "self must be a socket, not table: call sock:recv()",
        ),
        (
            "socket.poll{one}.select, socket.poll{one}, 'x'",
            "timeout_ms must be a number, not string",
        ),
        (
            "socket.poll{one}.select, socket.poll{one}, -1",
            "timeout_ms must be 0 or more, not -1",
        ),
        ("socket.poll{one}.select", "self must be a poll, not nil: call poll:select()"),
    ],
)
def test_a_wrong_argument_is_named_with_the_scripts_line(code: str, message: str) -> None:
    assert results(f"\n\nprint(pcall({code}))") == f"false\tscript:{LINE + 2}: {message}"


def test_the_line_of_a_call_without_pcall() -> None:
    code = "local function f()\n  one:bind('127.0.0.1', 'x')\nend\nprint(pcall(f))"
    assert results(code) == f"false\tscript:{LINE + 1}: port must be an integer, not string"


def test_levels_and_options_are_listed() -> None:
    code = "for _, t in ipairs{socket.level, socket.optname} do for k, v in pairs(t) do"
    lines = printed(f"{code} print(k, v) end end")
    assert sorted(lines) == sorted(f"{k}\t{v}" for t in (level, optname) for k, v in t.items())


def test_both_libraries_are_globals_and_modules() -> None:
    assert printed("print(require('socket') == socket, require('data') == data)") == ["true\ttrue"]
