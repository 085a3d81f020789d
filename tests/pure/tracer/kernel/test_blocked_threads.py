# SPDX-License-Identifier: MIT
import os
import socket
import threading
import time
from pathlib import Path

from tracer.kernel.blocked_threads import calls_at_start
from tracer.model.snapshot import CallAtStart

_PATIENCE_SECONDS = 30


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    """As the label of the same thread is."""
    ours, theirs = socket.socketpair()

    def receive() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_bytes(b"caf\xe9")
        ours.recv(1)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        (call,) = _blocked_in_recv()
    finally:
        theirs.close()
        thread.join()
        ours.close()
    assert call.comm == "caf\\xe9"
    assert call.tid == thread.native_id


def _blocked_in_recv() -> list[CallAtStart]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = [call for call, _ in calls_at_start((os.getpid(),), ("recv",))]
        if found:
            return found
        time.sleep(0.01)
    return []
