# SPDX-License-Identifier: MIT
"""A call that is in the kernel now and waits there."""

from dataclasses import dataclass

__all__ = ["BlockedCall", "End"]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection: its address, and its process if that is on this machine.

    `receive_queue` and `send_queue` are in bytes; None if they are not known. Those of a listener
    are the number of connections in its accept queue, and the limit of that number.
    """

    address: str = ""
    pid: int | None = None
    process: str | None = None
    receive_queue: int | None = None
    send_queue: int | None = None


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """A call that waits; `seconds` since its thread last ran, None if the kernel does not tell.

    `process` and `thread` are names, `descriptor` is the socket, and None for a call without a
    single socket, such as epoll_wait(2). `waits_for` is in words. `stack` are the functions in the
    kernel, the innermost first; empty without the right to read it.
    """

    pid: int
    tid: int
    process: str
    thread: str
    operation: str
    descriptor: int | None
    seconds: float | None
    transport: str | None
    state: str | None
    local: End
    peer: End
    waits_for: str
    stack: tuple[str, ...]

    @property
    def waits_for_work(self) -> bool:
        """Whether an idle server waits like that, so that a long wait means nothing."""
        return self.operation == "accept" or (
            self.operation == "select" and self.descriptor is None
        )
