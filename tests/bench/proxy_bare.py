# SPDX-License-Identifier: MIT
"""The upper limit for Python: SOCKSv4 with only recv_into and sendall.

It trusts its clients: no limits, no time-outs, no counters, no log. A request must come in one
piece.

    python tests/bench/proxy_bare.py PORT
"""

import contextlib
import socket
import sys
import threading

_BUFFER_BYTES = 256 * 1024
_STACK_BYTES = 128 * 1024
_GRANTED = bytes([0, 90, 0, 0, 0, 0, 0, 0])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with contextlib.suppress(OSError):  # the other side is gone; its thread ends too
        while size := source.recv_into(buffer):
            sink.sendall(buffer[:size])
        sink.shutdown(socket.SHUT_WR)


def _serve(client: socket.socket) -> None:
    request = client.recv(512)
    address = socket.inet_ntoa(request[4:8]), int.from_bytes(request[2:4])
    with client, socket.create_connection(address) as target:
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(_GRANTED)
        there = threading.Thread(target=_pump, args=(client, target), daemon=True)
        there.start()
        _pump(target, client)
        there.join()


def main() -> None:
    """Serve until killed."""
    threading.stack_size(_STACK_BYTES)
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=_serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
