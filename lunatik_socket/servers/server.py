# SPDX-License-Identifier: MIT
"""The common part of the servers: opening, accepting clients, limits, time-outs, stopping."""

import errno
import logging
import resource
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .acceptor import Acceptor
from .limits import AddressUse, Limits, RareWarning
from .loop import Loop, Member
from .tally import Tally

__all__ = ["Server", "ServerConfig", "ServerStats", "Session"]

# Listener, poll, waker, standard streams, and the files that the program has open besides.
_SPARE_DESCRIPTORS = 64
_TICKS_A_TIMEOUT = 8
_LONGEST_TICK_SECONDS = 1.0
_SHORTEST_TICK_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The configuration of every server.

    `max_clients_per_address`: None is a quarter of `max_clients`, and no limit for loopback
    addresses. A time-out fires late by at most an eighth of the shortest one, and by at most a
    second. `grace_seconds`: how long clients may go on after `stop`. `tally`: count the documented
    calls.
    """

    listen: tuple[str, int]
    max_clients: int = 2000
    max_clients_per_address: int | None = None
    backlog: int = 4096
    idle_timeout_seconds: float = 300.0
    grace_seconds: float = 5.0
    tally: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.startswith(("max_", "backlog")) and value is not None and value < 1:
                raise ValueError(f"{name} must be positive, not {value}")
        for name, seconds in self.timeouts().items():
            if not seconds > 0:
                raise ValueError(f"{name} must be positive, not {seconds}")
        if not self.grace_seconds >= 0:
            raise ValueError(f"grace_seconds must be 0 or more, not {self.grace_seconds}")

    def timeouts(self) -> dict[str, float]:
        """Return the time-outs by name, in seconds."""
        return {
            name: value for name, value in vars(self).items() if name.endswith("_timeout_seconds")
        }


@dataclass(frozen=True, kw_only=True)
class ServerStats:
    """Counts since `open`, except `active`, which is the current number of clients.

    `calls`, `errors` and `call_bytes` count the documented calls by operation, `errors` by
    operation and errno name. They are empty without `ServerConfig.tally`. `turned_away` are the
    accepted clients that were reset to keep a limit: one too many of their address, or one that had
    sent no request when another client needed the room.
    """

    accepted: int
    active: int
    turned_away: int
    timed_out: int
    broken: int
    calls: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    call_bytes: Mapping[str, int] = field(default_factory=dict)


class Session(Protocol):
    """One client's connection as the server sees it. `deadline` is in seconds of `Loop.now`.

    `use` is what the limits know of the client's address.
    """

    deadline: float
    use: AddressUse[Any]

    def begin(self) -> None:
        """Start to serve the client, which was just accepted."""

    def time_out(self) -> None:
        """End the session or its current step, because the deadline has passed."""

    def cut(self, cause: str) -> None:
        """End at once, in any state."""

    def make_way(self) -> None:
        """End at once without a line in the log, because another client needs the room."""


AnySession = TypeVar("AnySession", bound=Session)
AnyConfig = TypeVar("AnyConfig", bound=ServerConfig)


class Server(Generic[AnyConfig, AnySession]):
    """Call `open`, then `serve`; `stop` from any thread. Subclasses make the clients' sessions."""

    _descriptors_a_client = 1
    _log = logging.getLogger(__name__)

    def __init__(self, config: AnyConfig) -> None:
        self.config = config
        self._sessions: set[AnySession] = set()
        self._is_open = False
        self._tally = Tally()
        self._stop_at: float | None = None  # when the last clients are cut; None: not stopping
        self._turned_away = 0

    @property
    def address(self) -> tuple[str, int]:
        """The address that the server listens on. Known after `open`."""
        return self._acceptor.address

    def open(self) -> None:
        """Listen.

        Raises the process's soft limit of open files if `max_clients` needs more. `OSError` if the
        server cannot listen or the hard limit is too low.
        """
        config = self.config
        _allow_descriptors(config.max_clients * self._descriptors_a_client, config.max_clients)
        with ExitStack() as undo:
            self._loop = Loop(
                on_tick=self._on_tick,
                is_ticking=self._is_ticking,
                tick_seconds=_tick_seconds(config.timeouts().values()),
                tally=self._tally if config.tally else None,
            )
            undo.callback(self._loop.close)
            loop = self._loop
            self._warn_turned_away = RareWarning(self._log, lambda: loop.now)
            self._limits = self._make_limits()
            self._acceptor = Acceptor(
                self._loop,
                config.listen,
                backlog=config.backlog,
                max_clients=config.max_clients,
                admit=self._admit,
                make_room=self._make_room,
                prepare=self._prepare,
                log=self._log,
            )
            undo.callback(self._acceptor.close)
            self._opened()
            undo.pop_all()
        self._is_open = True

    def serve(self) -> None:
        """Serve until `stop`, then the remaining clients for `grace_seconds`; release all."""
        if not self._is_open:
            raise ValueError("the server is not open: call open() first")
        self._log.info("listening on %s:%d", *self.address)
        try:
            self._loop.run()
        finally:
            self._close()

    def stop(self) -> None:
        """Stop accepting and let `serve` return. From any thread, any number of times."""
        if self._is_open:
            self._loop.post(self._begin_stop)

    # ------------------------------------------------------------------ for subclasses

    def _session(self, client: Member, use: AddressUse[AnySession]) -> AnySession:
        raise NotImplementedError

    def _make_limits(self) -> Limits[AnySession]:
        return Limits(self.config.max_clients, self.config.max_clients_per_address)

    def _prepare(self, listener: Member) -> None:
        """Set options on the listener before it listens."""

    def _opened(self) -> None:
        """Make what else the server needs. Loop and listener exist by now."""

    def _stopping(self) -> None:
        """Stop taking new work."""

    def _closed(self) -> None:
        """Release what `_opened` made."""

    def _on_end(self, session: AnySession) -> None:
        """Forget a session. Each session calls this once, when it is over."""
        self._sessions.discard(session)
        self._limits.leave(session, session.use)
        self._acceptor.left()
        self._finish_if_done()

    def _on_made_way(self, session: AnySession) -> None:
        """Count a session that ends because of `make_way`."""
        self._turned_away += 1
        self._warn_turned_away(
            f"{session.use.address}: reset: it sent no request, and another client needed the room"
        )

    def _call_counts(self) -> Tally:
        return self._tally + self._loop.waker_tally

    # ------------------------------------------------------------------ the loop's callbacks

    def _admit(self, client: Member) -> None:
        assert client.peer is not None
        use = self._limits.enter(client.peer[0])
        if use is None:
            self._turn_away(client)
            return
        session = self._session(client, use)
        self._sessions.add(session)
        session.begin()

    def _turn_away(self, client: Member) -> None:
        self._turned_away += 1
        self._warn_turned_away(f"{client.peer_shown}: reset: too many clients of this address")
        client.reset_on_close()
        self._loop.drop(client)
        self._acceptor.left()

    def _make_room(self) -> float:
        return self._limits.make_room(self._loop.now)

    def _is_ticking(self) -> bool:
        return bool(self._sessions) or self._acceptor.is_paused

    def _on_tick(self) -> None:
        now = self._loop.now
        is_late = self._stop_at is not None and now >= self._stop_at
        for session in list(self._sessions):
            if is_late:
                session.cut("the server stops")
            elif now >= session.deadline:
                session.time_out()
        self._acceptor.on_tick()

    def _begin_stop(self) -> None:
        if self._stop_at is not None:
            return
        self._stop_at = self._loop.now + self.config.grace_seconds
        self._loop.tick_by(self._stop_at)
        self._log.info("stopping, with %d clients connected", len(self._sessions))
        self._acceptor.close()
        self._stopping()
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._stop_at is not None and not self._sessions:
            self._loop.finish()

    def _close(self) -> None:
        self._is_open = False
        self._acceptor.close()
        for session in list(self._sessions):
            session.cut("the server ends")
        self._closed()
        self._loop.close()


def _tick_seconds(timeouts: Iterable[float]) -> float:
    tick = min(timeouts) / _TICKS_A_TIMEOUT
    return max(_SHORTEST_TICK_SECONDS, min(tick, _LONGEST_TICK_SECONDS))


def _allow_descriptors(of_clients: int, clients: int) -> None:
    needed = of_clients + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(
            errno.EMFILE,
            f'cannot serve "{clients} clients": they need {needed} open files, the hard limit '
            f"is {hard} (EMFILE); allow fewer clients, or raise the limit (ulimit -Hn)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
