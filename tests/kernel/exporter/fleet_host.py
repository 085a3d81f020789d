# SPDX-License-Identifier: MIT
"""One host of a fleet, in the network namespace it was started in: a worker, a tracer, an exporter.

    python -m tests.kernel.exporter.fleet_host ADDRESS

Says `ready` when it can be scraped; works a round for each line it reads, and says `done`.
"""

import sys

from tests.kernel.workload import working
from tracer.exporter.http.server import MetricsServer

PORT = 10435


def main() -> None:
    """Serve until standard input ends."""
    # The worker is made before the exporter's threads, and does its deeds in the same namespace.
    sys.stdin.readline()  # the namespace has its address now
    with working() as (worker, session), MetricsServer((sys.argv[1], PORT), session.snapshot):
        print("ready", flush=True)
        for _ in sys.stdin:
            worker.work()
            print("done", flush=True)


if __name__ == "__main__":
    main()
