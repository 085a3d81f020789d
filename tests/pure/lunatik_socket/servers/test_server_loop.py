# SPDX-License-Identifier: MIT
"""The servers' loop, where its threads meet."""

import threading

from lunatik_socket.servers.loop import Loop


def test_it_is_not_closed_under_a_thread_that_wakes_it() -> None:
    """Between finding the waker open and sending to it: the send would fail."""
    loop = Loop(on_tick=lambda: None, is_ticking=lambda: False, tick_seconds=1)
    closing = threading.Thread(target=loop.close)
    with loop._waker.lock:  # as wake() holds it
        closing.start()
        closing.join(0.05)
        assert loop._waker.sock.fileno() >= 0
    closing.join(10)
    assert loop._waker.sock.fileno() == -1
    loop.post(lambda: None)  # too late, and no error
