# SPDX-License-Identifier: MIT
"""Blocked calls in words, for `lunatik-socket stuck`."""

from collections.abc import Iterator

from rich.text import Text

from tracer.model.blocked_call import BlockedCall, End
from tracer.terminal import units
from tracer.terminal.rows import escaped

__all__ = ["blocked_lines"]

_AGE_WIDTH = 9


def blocked_lines(call: BlockedCall, *, with_stack: bool) -> Iterator[Text]:
    """Yield the lines of one call: what waits and what for, the connection, its queues."""
    age = units.duration(call.seconds) if call.seconds is not None else "?"
    on = "" if call.descriptor is None else f" on descriptor {call.descriptor}"
    yield Text.assemble(
        (f"{age:<{_AGE_WIDTH}}", "bold"),
        (_thread(call), "bold"),
        f" {call.operation}{on} waits for {call.waits_for}",
    )
    for line in (_connection(call), _queues(call)):
        if line:
            yield Text(f"{'':{_AGE_WIDTH}}{line}")
    if with_stack and call.stack:
        yield Text(f"{'':{_AGE_WIDTH}}{' < '.join(call.stack)}", style="dim")


def _thread(call: BlockedCall) -> str:
    if call.tid == call.pid:
        return _process(call.process, call.pid)
    name = "" if call.thread == call.process else f" {escaped(call.thread)}"
    return f"{_process(call.process, call.pid)} thread {call.tid}{name}"


def _process(name: str, pid: int) -> str:
    return f"{escaped(name)}[{pid}]"


def _connection(call: BlockedCall) -> str:
    """Such as "tcp ESTABLISHED 10.0.0.1:80 -> 10.0.0.2:4711 nginx[823]"."""
    if call.transport is None:
        return ""
    words = [call.transport]
    if call.transport == "tcp":
        words.append(call.state or "")
    words.append(escaped(call.local.address))
    peer = call.peer
    if peer.address or peer.pid is not None:
        words += ["->", escaped(peer.address)]
    if peer.pid is not None:
        words.append(_process(peer.process or "", peer.pid))
    return " ".join(word for word in words if word)


def _queues(call: BlockedCall) -> str:
    """The queues that are not empty; of a listener always."""
    if call.state == "LISTEN":
        return _accept_queue(call.local)
    if call.state == "SYN_SENT":
        return _accept_queue(call.peer)
    found = [
        (call.local.send_queue, "unsent or not acknowledged"),
        (call.local.receive_queue, "not read"),
        (call.peer.receive_queue, "not read by the peer"),
    ]
    return ", ".join(f"{units.size(queue)} {words}" for queue, words in found if queue)


def _accept_queue(listener: End) -> str:
    if listener.receive_queue is None:
        return ""
    return f"{listener.receive_queue} in the listener's accept queue, limit {listener.send_queue}"
