# SPDX-License-Identifier: MIT
"""One host of a fleet, in its own network namespace: a worker, a tracer, an exporter.

    python -m tests.kernel.exporter.fleet_host ADDRESS

It prints `ready` when it can be scraped. For each line that it reads, it works a round, then prints
`done`.
"""

import sys

from tests.kernel.workload import working
from tracer.exporter.http.routes import MetricsServer

PORT = 10435


def main() -> None:
    """Serve until standard input ends."""
    # The worker is forked before the exporter starts threads, and works in the same namespace.
    sys.stdin.readline()  # from now on the namespace has its address
    with working() as (worker, session), MetricsServer((sys.argv[1], PORT), session.snapshot):
        print("ready", flush=True)
        for _ in sys.stdin:
            worker.work()
            print("done", flush=True)


if __name__ == "__main__":
    main()
