# SPDX-License-Identifier: MIT
"""Host names to IPv4 addresses, off the loop: a look-up blocks for as long as a name server likes.

Resolution is none of the documented operations. The C library makes its own sockets for it, which a
tracer of the process counts and a server's own tally does not.
"""

import threading
from _socket import AF_INET, SOCK_STREAM, gaierror, getaddrinfo
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue

__all__ = ["Lookup", "Resolver"]


class Lookup:
    """One name on its way to its addresses; `addresses` or `error` is set when it is done."""

    def __init__(self, name: str, done: Callable[["Lookup"], None]) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.error = ""
        self.cancelled = False
        self._done = done

    def cancel(self) -> None:
        """Forget the look-up: it is not begun any more if it still queues, and reports nothing."""
        self.cancelled = True

    def run(self) -> None:
        """Ask the C library, and report from the thread that this runs in."""
        if self.cancelled:
            return
        try:
            found = getaddrinfo(self.name, None, AF_INET, SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except gaierror as error:
            self.error = f"{error.strerror} ({error.errno})"
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that idna cannot encode
            self.error = str(error)
        self._done(self)


class Resolver:
    """A few threads that look names up.

    More names than `threads` at once wait in a queue of `max_waiting`, which a name server that is
    slow fills; beyond it `look_up` refuses at once. Threads start with the first name.
    """

    def __init__(self, threads: int = 8, max_waiting: int = 256) -> None:
        self._waiting: Queue[Lookup | None] = Queue(max_waiting)
        self._wanted_threads = threads
        self._threads: list[threading.Thread] = []

    def look_up(self, name: str, done: Callable[[Lookup], None]) -> Lookup | None:
        """Queue `name`; `done` is called in another thread. None when the queue is full."""
        lookup = Lookup(name, done)
        try:
            self._waiting.put_nowait(lookup)
        except Full:
            return None
        if len(self._threads) < self._wanted_threads:
            self._start_thread()
        return lookup

    def close(self) -> None:
        """Let the threads end. Those inside a look-up end with it, or with the process: daemons."""
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
