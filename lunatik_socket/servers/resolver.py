# SPDX-License-Identifier: MIT
"""Looks up the IPv4 addresses of host names, in separate threads.

A look-up blocks until the name servers answer, so it must not run in the loop. Name resolution is
not one of the documented operations. The C library makes its own sockets for it: a tracer counts
them for the process, a server's own tally does not.
"""

import threading
from _socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue

__all__ = ["Lookup", "Resolver"]


class Lookup:
    """One name to look up. `addresses` or `error` is set when `done` is called."""

    def __init__(self, name: str, done: Callable[["Lookup"], None]) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.error = ""
        self.cancelled = False
        self._done = done

    def cancel(self) -> None:
        """Give up the look-up. If it is still queued it is not made. Its result must be ignored."""
        self.cancelled = True

    def run(self) -> None:
        """Ask the C library, then call `done` in the thread that called this."""
        if self.cancelled:
            return
        try:
            found = getaddrinfo(self.name, None, AF_INET, SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            if not self.addresses:
                self.error = "the name has no IPv4 address"
        except gaierror as error:
            self.error = f"{error.strerror} ({error.errno})"
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that idna cannot encode
            self.error = str(error)
        self._done(self)


class Resolver:
    """A few threads that look up names.

    Names wait in a queue while all `threads` are busy, as with a slow name server. When the queue
    has `max_waiting` names, `look_up` refuses more at once. A thread is started with each of the
    first names.
    """

    def __init__(self, threads: int = 8, max_waiting: int = 256) -> None:
        self._waiting: Queue[Lookup | None] = Queue(max_waiting)
        self._wanted_threads = threads
        self._threads: list[threading.Thread] = []

    def look_up(self, name: str, done: Callable[[Lookup], None]) -> Lookup | None:
        """Queue `name`. `done` is called in another thread. Returns None if the queue is full."""
        lookup = Lookup(name, done)
        try:
            self._waiting.put_nowait(lookup)
        except Full:
            return None
        if len(self._threads) < self._wanted_threads:
            self._start_thread()
        return lookup

    def close(self) -> None:
        """Let the threads end, after the look-up that they are in.

        They are daemon threads, so they do not keep the process alive.
        """
        with suppress(Empty):
            while True:
                if lookup := self._waiting.get_nowait():
                    lookup.cancel()
        for _ in self._threads:
            self._waiting.put_nowait(None)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="resolver", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        while (lookup := self._waiting.get()) is not None:
            lookup.run()
