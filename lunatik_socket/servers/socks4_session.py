# SPDX-License-Identifier: MIT
"""One client of the SOCKSv4 proxy, from its request to the end of both directions.

request → [resolve] → connect → relay → end
    └────────┴──────────┴→ refused: reply 91, then wait briefly for the client to close
"""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .destinations import Destinations
from .flow import Buffers, Flow
from .limits import AddressUse, Limits
from .loop import DO_NOT_WAIT, Loop, Member
from .resolver import Lookup, Resolver
from .socks4_config import Counters, Socks4Config
from .socks4_request import (
    CONNECT,
    GRANTED,
    MAX_REQUEST_BYTES,
    REFUSED,
    MalformedRequestError,
    Request,
    parse_request,
    reply,
)

__all__ = ["Shared", "Socks4Session"]

# How long a refused client has to read its reply before its connection is closed.
_REFUSAL_SECONDS = 1.0
_ANY_ADDRESS = "0.0.0.0"
_GRANTED = reply(GRANTED)
_REFUSED = reply(REFUSED)
# The events to wait for, by (wants to read, wants to write).
_EVENTS = {(False, False): "", (True, False): "r", (False, True): "w", (True, True): "rw"}


@dataclass(slots=True)
class Shared:
    """The objects that all sessions of a server share."""

    config: Socks4Config
    loop: Loop
    buffers: Buffers
    resolver: Resolver
    destinations: Destinations
    counters: Counters
    limits: Limits["Socks4Session"]
    own_address: tuple[str, int]
    on_end: Callable[["Socks4Session"], None]
    on_made_way: Callable[["Socks4Session"], None]
    log: logging.Logger


class Socks4Session:
    """A client's connection, and the connection to its target. Every path calls `_end` once.

    The server calls `time_out` when `Loop.now` has reached `deadline`. A request is under way until
    it is granted, refused or given up.
    """

    __slots__ = (
        *("_addresses", "_client", "_idle_seconds", "_is_under_way", "_lookup", "_loop", "_phase"),
        *("_received", "_request", "_shared", "_target", "_to_client", "_to_target", "deadline"),
        "use",
    )

    def __init__(self, shared: Shared, client: Member, use: AddressUse["Socks4Session"]) -> None:
        self.use = use
        self._is_under_way = False
        self._shared = shared
        self._loop = shared.loop
        self._client = client
        self._target: Member | None = None
        self._received = b""
        self._request: Request | None = None
        self._lookup: Lookup | None = None
        self._addresses: list[str] = []  # still to be tried; the last one is next
        self._to_target: Flow | None = None
        self._to_client: Flow | None = None
        self._idle_seconds = shared.config.idle_timeout_seconds
        self._phase = ""
        self.deadline = 0.0

    # ------------------------------------------------------------------ for the server

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """Bytes relayed so far, to the target and to the client."""
        to_target, to_client = self._to_target, self._to_client
        if to_target is None or to_client is None:
            return 0, 0
        return to_target.bytes, to_client.bytes

    def begin(self) -> None:
        """Receive the request. Most often it has arrived already."""
        self._is_under_way = True
        self.use.requests += 1
        self._enter("request", self._shared.config.request_timeout_seconds)
        self._on_request(True, False)

    def time_out(self) -> None:
        """End the step that took too long."""
        if self._phase == "refused":
            self._end()
            return
        self._shared.counters.timed_out += 1
        if self._phase in {"name", "connection"}:
            self._refuse(f"timed out: no {self._phase} in time")
        else:
            self._log(logging.WARNING, f"timed out: no {self._phase} in time")
            self._reset()

    def cut(self, cause: str) -> None:
        """End at once, in any state."""
        self._log(logging.INFO, f"cut: {cause}")
        self._reset()

    def make_way(self) -> None:
        """End at once without a line in the log, because another client needs the room."""
        self._shared.on_made_way(self)
        self._reset()

    # ------------------------------------------------------------------ request

    def _on_request(self, _can_read: bool, _can_write: bool) -> None:
        buffer = self._shared.buffers.free[:MAX_REQUEST_BYTES]
        try:
            _, size = self._client.recv(buffer, DO_NOT_WAIT)
        except BlockingIOError:
            self._wait_for_request()
        except OSError as error:
            self._break(error)
        else:
            self._received += buffer[:size]
            if size:
                self._read_request()
            else:
                self._break(f"the client left after {len(self._received)} bytes of a request")

    def _read_request(self) -> None:
        try:
            parsed = parse_request(self._received)
        except MalformedRequestError as error:
            self._refuse(f"malformed request: {error}")
            return
        if parsed is None:
            self._wait_for_request()
            return
        self._request, taken = parsed
        # The bytes after the request are the start of the stream: fewer than a request's maximum
        # length. No more is received until the target is connected.
        self._received = self._received[taken:]
        self._loop.want(self._client, "")
        self._examine(self._request)

    def _wait_for_request(self) -> None:
        self._loop.watch(self._client, "r", self._on_request)
        limits = self._shared.limits
        limits.wait(self, self.use, self._loop.now)
        limits.make_room_at(self.use)  # which may be this one's

    def _examine(self, request: Request) -> None:
        allowed, limits = self._shared.config.allowed_users, self._shared.limits
        limits.stop_waiting(self, self.use)
        address = request.literal_address
        if not limits.make_room_at(self.use):
            self._refuse("too many requests of this address are under way")
        elif request.command != CONNECT:
            self._refuse("BIND is not supported")
        elif allowed is not None and request.user not in allowed:
            self._refuse("the user is not allowed")
        elif request.port == 0:
            self._refuse("port 0 is not a destination")
        elif request.name is not None and not address:
            self._resolve(request.name)
        else:
            self._addresses = [address]
            self._enter("connection", self._shared.config.connect_timeout_seconds)
            self._connect(request.port)

    # ------------------------------------------------------------------ name

    def _resolve(self, name: str) -> None:
        self._enter("name", self._shared.config.connect_timeout_seconds)
        try:
            self._lookup = self._shared.resolver.look_up(name, self._post_resolved)
        except OSError as error:
            self._refuse(f"cannot resolve: {error}")

    def _post_resolved(self, lookup: Lookup) -> None:
        # Runs in the resolver's thread, which may call only `post` of the loop.
        self._loop.post(lambda: self._on_resolved(lookup))

    def _on_resolved(self, lookup: Lookup) -> None:
        if lookup.cancelled or self._request is None:  # cancelled: refused or over by now
            return
        self._lookup = None
        if lookup.error:
            self._refuse(f"cannot resolve: {lookup.error}")
            return
        self._addresses = lookup.addresses[::-1]
        # One time-out covers the name and all its addresses: the client waits for all of them.
        self._phase = "connection"
        self._connect(self._request.port)

    # ------------------------------------------------------------------ connection

    def _connect(self, port: int) -> None:
        """Start to connect to the next address."""
        address = self._addresses.pop()
        if address == _ANY_ADDRESS:
            # The kernel takes it as 127.0.0.1, which a rule about addresses would not expect.
            self._refuse("0.0.0.0 is not a destination")
            return
        # Checked here and not for the name: only this address is what a connection is made to.
        refusal = self._shared.destinations.refusal(address, port, self.use.address)
        if refusal:
            self._on_unusable_address(refusal)
            return
        try:
            target = self._target = self._loop.new()
            target.setblocking(False)
            target.setsockopt("t", "nd", 1)
            _begin_connect(target, address, port)
            if self._leads_here(target, address, port):
                self._refuse("the destination is this proxy")
            else:
                self._loop.watch(target, "w", self._on_connected)
        except OSError as error:
            self._on_connect_failed(error)

    def _leads_here(self, target: Member, address: str, port: int) -> bool:
        own_ip, own_port = self._shared.own_address
        if port != own_port:
            return False
        if own_ip != _ANY_ADDRESS:
            return address == own_ip
        # A proxy that listens on all addresses is reached through each address of the machine. If
        # the target is one of them, the kernel uses the same address as the source. That does not
        # hold for 127.0.0.0/8: all of it is local, and the source is 127.0.0.1.
        return address.startswith("127.") or address == target.getsockname()[0]

    def _on_connected(self, can_read: bool, _can_write: bool) -> None:
        assert self._target is not None
        try:
            if can_read:  # only "w" was asked for, so this is an error or a hang-up
                code = self._target.getsockopt("s", "e") or errno.ECONNRESET
                self._on_connect_failed(_connect_error(code, self._target.peer_shown))
            else:
                self._grant(self._target)
        except OSError as error:
            self._break(error)

    def _on_connect_failed(self, error: OSError) -> None:
        self._drop_target()
        self._on_unusable_address(error.strerror or str(error))

    def _on_unusable_address(self, cause: str) -> None:
        """Go on with the next address of the name, if there is one."""
        assert self._request is not None
        if self._addresses:
            self._connect(self._request.port)
        else:
            self._refuse(cause)

    # ------------------------------------------------------------------ relay

    def _grant(self, target: Member) -> None:
        self._shared.counters.connected += 1
        self._settle()
        self._log(logging.INFO, "connected")
        self._enter("traffic", self._idle_seconds)
        self._to_target = Flow(self._client, target, self._shared.buffers)
        self._to_client = Flow(target, self._client, self._shared.buffers)
        # The send buffer of a new connection is empty, so it takes all 8 bytes.
        self._client.send(_GRANTED, DO_NOT_WAIT)
        if self._received:
            self._to_target.bytes = len(self._received)
            self._to_target.hold(memoryview(self._received))
            self._to_target.flush()
        self._client.handler = self._on_client
        target.handler = self._on_target
        self._wait()

    def _on_client(self, can_read: bool, can_write: bool) -> None:
        self._relay(self._to_target, self._to_client, can_read, can_write)

    def _on_target(self, can_read: bool, can_write: bool) -> None:
        self._relay(self._to_client, self._to_target, can_read, can_write)

    def _relay(
        self, out_of: Flow | None, into: Flow | None, can_read: bool, can_write: bool
    ) -> None:
        assert out_of is not None
        assert into is not None
        self.deadline = self._loop.now + self._idle_seconds
        try:
            changed = can_write and into.flush()
            if can_read and out_of.pump():
                changed = True
            if changed:
                self._wait()
        except OSError as error:
            self._break(error)

    def _wait(self) -> None:
        """Wait for what the flows want now, or end the session if both have ended."""
        to_target, to_client = self._to_target, self._to_client
        assert to_target is not None
        assert to_client is not None
        if to_target.ended and to_client.ended:
            self._log(logging.INFO, "closed")
            self._end()
            return
        want = self._loop.want
        want(to_target.source, _EVENTS[to_target.wants_source, to_client.wants_sink])
        want(to_target.sink, _EVENTS[to_client.wants_source, to_target.wants_sink])

    # ------------------------------------------------------------------ ending

    def _refuse(self, cause: str) -> None:
        self._shared.counters.refused += 1
        self._settle()
        self._log(logging.WARNING, f"refused: {cause}")
        self._cancel_lookup()  # an answer that comes later must not start a connection
        self._drop_target()
        self._enter("refused", _REFUSAL_SECONDS)
        try:
            self._client.send(_REFUSED, DO_NOT_WAIT)
            # Closing a socket that has unread bytes resets the connection, and the client could
            # lose the reply. So wait until the client closes, or until the time is over.
            self._client.shutdown("w")
            self._loop.watch(self._client, "r", self._on_refused)
        except OSError:  # the client did not wait for the answer
            self._end()

    def _on_refused(self, _can_read: bool, _can_write: bool) -> None:
        try:
            _, size = self._client.recv(self._shared.buffers.free, DO_NOT_WAIT)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._end()

    def _break(self, cause: OSError | str) -> None:
        self._shared.counters.broken += 1
        self._log(logging.INFO, f"broken off: {cause}")
        self._reset()

    def _reset(self) -> None:
        # After a normal end of the stream the client would take a partial download for a complete
        # one.
        for sock in (self._client, self._target):
            if sock is not None:
                sock.reset_on_close()
        self._end()

    def _end(self) -> None:
        to_target, to_client = self.bytes_moved
        self._shared.counters.bytes_to_target += to_target
        self._shared.counters.bytes_to_client += to_client
        for flow in (self._to_target, self._to_client):
            if flow is not None:
                flow.discard()
        self._to_target = self._to_client = None
        self._settle()
        self._cancel_lookup()
        self._drop_target()
        self._loop.drop(self._client)
        self._shared.on_end(self)

    # ------------------------------------------------------------------ helpers

    def _enter(self, phase: str, seconds: float) -> None:
        self._phase = phase
        self.deadline = self._loop.now + seconds

    def _settle(self) -> None:
        """Note that the request is no longer under way."""
        if self._is_under_way:
            self._is_under_way = False
            self.use.requests -= 1
            self._shared.limits.stop_waiting(self, self.use)

    def _cancel_lookup(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None

    def _drop_target(self) -> None:
        if self._target is not None:
            self._loop.drop(self._target)
            self._target = None

    def _log(self, level: int, text: str) -> None:
        log = self._shared.log
        if log.isEnabledFor(level):
            request = self._request
            asked = f' user "{request.user}" to {request.destination}' if request else ""
            log.log(level, "%s%s: %s", self._client.peer_shown, asked, text)


def _begin_connect(target: Member, address: str, port: int) -> None:
    with suppress(BlockingIOError):  # EINPROGRESS is the normal case
        target.connect(address, port)


def _connect_error(code: int, peer: str) -> OSError:
    # The same text as the API gives when connect fails at once.
    name = errno.errorcode.get(code, code)
    return OSError(code, f'cannot connect to "{peer}": {os.strerror(code)} ({name})')
