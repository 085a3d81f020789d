# SPDX-License-Identifier: MIT
"""Measures what many hosts cost a Prometheus: memory and disk for each series.

    python -m tests.kernel.exporter.fleet_cost [HOSTS [SECONDS]]

Prometheus scrapes one exporter under a workload, once for each host and under its name. Needs
root. The figures in docs/fleet.md come from this command.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.kernel.children import wait_until
from tests.kernel.exporter.prometheus import prometheus
from tests.kernel.workload import Round, working
from tracer.exporter.http.routes import MetricsServer

PACE_SECONDS = 5
_USUAL = ("100", "120")  # hosts, seconds


def main() -> None:
    """Measure, and print."""
    hosts, seconds = (int(word) for word in [*sys.argv[1:], *_USUAL[len(sys.argv) - 1 :]])
    with (
        tempfile.TemporaryDirectory() as directory,
        working() as (worker, session),
        MetricsServer(("127.0.0.1", 0), session.snapshot) as server,
    ):
        place, address = Path(directory), "{}:{}".format(*server.address)
        # One address with a different instance label for each host gives as many targets.
        groups = [{"targets": [address], "labels": {"instance": f"host-{i}"}} for i in range(hosts)]
        with prometheus(place, groups={"hosts": groups}, pace_seconds=PACE_SECONDS) as observer:
            up = 'count(up{instance=~"host-.*"} == 1)'
            wait_until(lambda: observer.query(up) == [({}, hosts)], "all hosts")
            with Round(worker):
                time.sleep(seconds)
            scraped = observer.value('scrape_samples_scraped{instance="host-0"}')
            recorded = observer.value('count({__name__=~"instance_.*",instance="host-0"})')
            status = observer.status("tsdb")["headStats"]
            memory = observer.resident_bytes()
            samples = observer.value(f"sum(sum_over_time(scrape_samples_scraped[{seconds}s]))")
            print(f"{hosts} hosts; of each {scraped:,.0f} series, and {recorded:,.0f} of rules")
            print(f"Prometheus holds {status['numSeries']:,} series in {memory / 2**20:,.0f} MiB:")
            print(f"  {memory / status['numSeries'] / 1024:.2f} KiB a series")
            log = sum(path.stat().st_size for path in (place / "data" / "wal").rglob("*"))
            print(f"samples {samples:,.0f}; write-ahead log {log / samples:.2f} bytes a sample")


if __name__ == "__main__":
    main()
