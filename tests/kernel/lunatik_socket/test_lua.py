# SPDX-License-Identifier: MIT
"""Every documented operation from Lua: 23 calls are counted as exactly 23."""

import gc

import pytest

from lunatik_socket import EXTRA_SYSTEM_CALLS
from lunatik_socket.lua import State
from tests.kernel.counting import Counts, counted
from tracer.model.operations import OPERATIONS
from tracer.session import Session

N = 23
PREPARED = b"""
N = 23
listener = socket.new("inet", "tcp")
listener:bind("127.0.0.1", 0)
listener:listen(64)
address, port = listener:getsockname()

function many(make)
  local made = {}
  for index = 1, N do made[index] = make() end
  return made
end

function fresh() return socket.new("inet", kind) end

function tcp()
  local client = socket.new("inet", "tcp")
  client:connect(address, port)
  return client, listener:accept()
end

function udp()
  local one, two = socket.new("i", "u"), socket.new("i", "u")
  one:bind("127.0.0.1", 0)
  two:bind("127.0.0.1", 0)
  one:connect(two:getsockname())
  two:connect(one:getsockname())
  return one, two
end
"""
transports = pytest.mark.parametrize("transport", ["tcp", "udp"])


def counts_of(session: Session, before: str, work: str, transport: str = "tcp") -> Counts:
    """Run `before`, then count the calls of `work`, which uses the globals that `before` set."""
    state = State()
    state.run(PREPARED + f'kind = "{transport}"'.encode())
    state.run(before.encode())
    gc.collect()  # so that no socket of an earlier state is closed during the count
    with counted(session) as counts:
        state.run(work.encode())
    return counts


def assert_exactly(
    counts: Counts, moved: dict[str, int], transport: str, others: dict[str, int] | None = None
) -> None:
    """Assert that each operation of `moved` was made 23 times, with its number of bytes."""
    assert counts.all_calls() == dict.fromkeys(moved, N) | (others or {})
    for operation, size in moved.items():
        assert counts.calls(operation, transport) == N
        assert counts.bytes(operation, transport) == N * size
        assert counts.errors(operation) == {}
    assert not counts.lost
    assert not counts.in_progress


@transports
def test_new(session: Session, transport: str) -> None:
    counts = counts_of(session, "", "kept = many(fresh)", transport)
    assert_exactly(counts, {"new": 0}, transport)


@transports
def test_bind(session: Session, transport: str) -> None:
    work = 'for _, s in ipairs(kept) do s:bind("127.0.0.1", 0) end'
    counts = counts_of(session, "kept = many(fresh)", work, transport)
    assert_exactly(counts, {"bind": 0}, transport)


def test_listen(session: Session) -> None:
    work = "for _, s in ipairs(kept) do s:listen(5) end"
    assert_exactly(counts_of(session, "kept = many(fresh)", work), {"listen": 0}, "tcp")


def test_connect_and_accept(session: Session) -> None:
    work = (
        "for i, s in ipairs(kept) do s:connect(address, port) kept[i] = {s, listener:accept()} end"
    )
    extra = {name: N for call in EXTRA_SYSTEM_CALLS.values() for name in call}
    counts = counts_of(session, "kept = many(fresh)", work)
    assert_exactly(counts, {"connect": 0, "accept": 0}, "tcp", extra)


@transports
@pytest.mark.parametrize(
    "way",
    [
        "one:send(buffer) assert(select(2, two:recv(buffer)) == 7)",
        "one:send(bytes) assert(select(2, two:recv(7)) == 7)",
        "one:send(buffer:segment(0, 7), 'D') assert(select(2, two:recv(buffer, 'D')) == 7)",
    ],
)
def test_send_and_recv(session: Session, transport: str, way: str) -> None:
    before = f"one, two = {transport}() buffer, bytes = data.new(7), {{1, 2, 3, 4, 5, 6, 7}}"
    counts = counts_of(session, before, f"for i = 1, N do {way} end", transport)
    assert_exactly(counts, {"send": 7, "recv": 7}, transport)


@transports
@pytest.mark.parametrize(
    "way",
    [
        "one:sendmsg({}, buffer) assert(select(2, two:recvmsg({}, buffer)) == 7)",
        "one:sendmsg({}, bytes) assert(select(2, two:recvmsg({iov_len = 7})) == 7)",
    ],
)
def test_sendmsg_and_recvmsg(session: Session, transport: str, way: str) -> None:
    before = f"one, two = {transport}() buffer, bytes = data.new(7), {{1, 2, 3, 4, 5, 6, 7}}"
    counts = counts_of(session, before, f"for i = 1, N do {way} end", transport)
    assert_exactly(counts, {"sendmsg": 7, "recvmsg": 7}, transport)


@transports
@pytest.mark.parametrize("how", ["s:close() s:close()", "kept[i] = nil"])
def test_close(session: Session, transport: str, how: str) -> None:
    work = f"for i, s in ipairs(kept) do {how} end kept = nil collectgarbage() collectgarbage()"
    counts = counts_of(session, "kept = many(fresh)", work, transport)
    assert_exactly(counts, {"close": 0}, transport)


@transports
@pytest.mark.parametrize("operation", ["getsockname", "getpeername"])
def test_names(session: Session, transport: str, operation: str) -> None:
    work = f"for i = 1, N do one:{operation}() end"
    counts = counts_of(session, f"one, two = {transport}()", work, transport)
    assert_exactly(counts, {operation: 0}, transport)


@transports
def test_options(session: Session, transport: str) -> None:
    work = 'for i = 1, N do one:setsockopt("s", "k", 1) assert(one:getsockopt("s", "k") == 1) end'
    counts = counts_of(session, "one = fresh()", work, transport)
    assert_exactly(counts, {"setsockopt": 0, "getsockopt": 0}, transport)


def test_poll(session: Session) -> None:
    work = "kept = many(function() return socket.poll{one, two} end)"
    assert_exactly(counts_of(session, "one, two = tcp()", work), {"poll": 0}, "other")


def test_select(session: Session) -> None:
    before = "one, two = tcp() members = socket.poll{one, two} one:send{1}"
    work = "for i = 1, N do assert(members:select() == 1) end"
    assert_exactly(counts_of(session, before, work), {"select": 0}, "other")


def test_an_error_is_counted_by_its_name(session: Session) -> None:
    work = """for i = 1, N do
      assert(select(2, pcall(closed.send, closed, buffer)) == -9)
      assert(select(2, pcall(one.recv, one, 5, "D")) == -11)
    end"""
    before = "closed, one, buffer = fresh(), udp(), data.new(3) closed:close()"
    counts = counts_of(session, before, work)
    assert counts.all_calls() == {"send": N, "recv": N}
    assert (counts.errors("send"), counts.errors("recv")) == ({"EBADF": N}, {"EAGAIN": N})


def test_a_wrong_argument_never_reaches_the_kernel(session: Session) -> None:
    work = """for i = 1, N do
      assert(not pcall(one.connect, one, "127.0.0.1", 0))
      assert(not pcall(one.send, one, "text"))
      assert(not pcall(one.recvmsg, one, {}))
    end"""
    assert counts_of(session, "one = fresh()", work).all_calls() == {}


# What is run before the count, and what makes N calls of the operation.
WORK = {
    "new": ("", "kept = many(fresh)"),
    "bind": ("kept = many(fresh)", "for _, s in ipairs(kept) do s:bind('127.0.0.1', 0) end"),
    "listen": ("kept = many(fresh)", "for _, s in ipairs(kept) do s:listen(5) end"),
    "accept": (
        "kept = many(fresh) for _, s in ipairs(kept) do s:connect(address, port) end",
        "for i = 1, N do kept[N + i] = listener:accept() end",
    ),
    "connect": ("kept = many(fresh)", "for _, s in ipairs(kept) do s:connect(address, port) end"),
    "sendmsg": ("one, two = udp()", "for i = 1, N do one:sendmsg({}, {1}) end"),
    "recvmsg": (
        "one, two = udp() for i = 1, N do one:send{1} end",
        "for i = 1, N do two:recvmsg({iov_len = 1}) end",
    ),
    "send": ("one, two = udp()", "for i = 1, N do one:send{1} end"),
    "recv": (
        "one, two = udp() for i = 1, N do one:send{1} end",
        "for i = 1, N do two:recv(1) end",
    ),
    "close": ("kept = many(fresh)", "for _, s in ipairs(kept) do s:close() end"),
    "getsockname": ("one, two = udp()", "for i = 1, N do one:getsockname() end"),
    "getpeername": ("one, two = udp()", "for i = 1, N do one:getpeername() end"),
    "getsockopt": ("one = fresh()", "for i = 1, N do one:getsockopt('s', 'k') end"),
    "setsockopt": ("one = fresh()", "for i = 1, N do one:setsockopt('s', 'k', 1) end"),
    "poll": ("one, two = tcp()", "kept = many(function() return socket.poll{one, two} end)"),
    "select": (
        "one, two = tcp() members = socket.poll{one, two} one:send{1}",
        "for i = 1, N do members:select() end",
    ),
}


@pytest.mark.parametrize("operation", [operation.name for operation in OPERATIONS])
def test_every_operation_of_the_table_moves_its_count(session: Session, operation: str) -> None:
    """Fails when an operation is added and nothing here calls it and so moves its count."""
    assert operation in WORK, f'no call of "{operation}" is counted here'
    assert counts_of(session, *WORK[operation]).calls(operation) == N
