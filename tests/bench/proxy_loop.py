# SPDX-License-Identifier: MIT
"""Runs the SOCKSv4 proxy alone in a process, for `bench_proxy.py`.

python tests/bench/proxy_loop.py PORT
"""

import signal
import sys

from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server


def main() -> None:
    """Serve until SIGTERM."""
    server = Socks4Server(Socks4Config(listen=("127.0.0.1", int(sys.argv[1]))))
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.open()
    print(server.address[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main()
