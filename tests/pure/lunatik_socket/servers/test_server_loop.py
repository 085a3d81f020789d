# SPDX-License-Identifier: MIT
"""The servers' loop, where it is used by several threads."""

import threading

from lunatik_socket.servers.loop import Loop

WAIT_SECONDS = 10


class WatchedLock:
    """A lock with an event that is set when a thread has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def loop_with(lock: WatchedLock) -> Loop:
    loop = Loop(on_tick=lambda: None, is_ticking=lambda: False, tick_seconds=1)
    loop._waker.lock = lock  # type: ignore[assignment]
    return loop


def test_it_is_not_closed_under_a_thread_that_wakes_it() -> None:
    """A close between the check that the waker is open and the send would fail the send."""
    lock = WatchedLock()
    loop = loop_with(lock)
    closing = threading.Thread(target=loop.close)
    with lock:  # as wake() holds it
        closing.start()
        assert lock.waited_for.wait(WAIT_SECONDS)
        assert loop._waker.sock.fileno() >= 0
    closing.join(WAIT_SECONDS)
    assert loop._waker.sock.fileno() == -1
    loop.post(lambda: None)  # after the close, and no error


def test_a_thread_that_wakes_it_waits_for_the_lock() -> None:
    lock = WatchedLock()
    loop = loop_with(lock)
    waking = threading.Thread(target=loop.post, args=(lambda: None,))
    with lock:  # as close() holds it
        waking.start()
        assert lock.waited_for.wait(WAIT_SECONDS)
        assert not loop._waker._is_sent
    waking.join(WAIT_SECONDS)
    assert loop._waker._is_sent
    loop.close()
