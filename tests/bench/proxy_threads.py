# SPDX-License-Identifier: MIT
"""The design that was not chosen: a SOCKSv4 proxy with two threads per client and blocking calls.

It has only what `bench_proxy.py` needs for a fair comparison: no limits, no time-outs, no log.

    python tests/bench/proxy_threads.py PORT
"""

import sys
import threading

from lunatik_socket import Socket, new
from lunatik_socket.servers.socks4_request import GRANTED, parse_request, reply

_BUFFER_BYTES = 256 * 1024
_STACK_BYTES = 128 * 1024


def _pump(source: Socket, sink: Socket) -> None:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    try:
        while size := source.recv(buffer)[1]:
            sent = 0
            while sent < size:
                sent += sink.send(buffer[sent:size])
        sink.shutdown("w")
    except OSError:
        pass  # the other side is gone; its thread ends too


def _serve(client: Socket) -> None:
    with client, new() as target:
        parsed = parse_request(client.recv(512)[0])
        assert parsed is not None
        target.setsockopt("t", "nd", 1)
        target.connect(parsed[0].address, parsed[0].port)
        client.send(reply(GRANTED))
        there = threading.Thread(target=_pump, args=(client, target), daemon=True)
        there.start()
        _pump(target, client)
        there.join()


def main() -> None:
    """Serve until killed."""
    threading.stack_size(_STACK_BYTES)
    with new() as listener:
        listener.setsockopt("s", "ra", 1)
        listener.setsockopt("t", "nd", 1)
        listener.bind("127.0.0.1", int(sys.argv[1]))
        listener.listen(4096)
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=_serve, args=(listener.accept(),), daemon=True).start()


if __name__ == "__main__":
    main()
