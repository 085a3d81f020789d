# SPDX-License-Identifier: MIT
"""Three hosts and a Prometheus that finds them by file, each in a network namespace of its own.

    unshare --net python -m tests.kernel.exporter.fleet DIRECTORY ROUNDS ROUNDS ROUNDS

It runs in a new network namespace, so everything it makes there disappears with it. Each host works
ROUNDS rounds; then the queries of the boards are sent, and the answers printed as JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.kernel.children import TIMEOUT_SECONDS, wait_until
from tests.kernel.exporter.fleet_host import PORT
from tests.kernel.exporter.prometheus import Prometheus, prometheus
from tests.kernel.workload import CALLS
from tests.pure.dashboards.boards import panel_queries, with_variables

_HOST = "tests.kernel.exporter.fleet_host"
WINDOW = "60s"
ALL = ".*"
RECORDED = 'instance_operation_path:lunatik_socket_operation_calls:rate5m{operation="send"}'


class Host:
    """A host: its address, and the pipe that controls it."""

    def __init__(self, number: int) -> None:
        self.address = f"10.77.{number}.2"
        self._process = subprocess.Popen(
            [
                "unshare",
                "--net",
                sys.executable,
                "-m",
                _HOST,
                self.address,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._number = number

    def connect(self) -> None:
        """Connect it to this namespace by a veth pair."""
        near, far, pid = f"host{self._number}", f"10.77.{self._number}", str(self._process.pid)
        # Its namespace exists as soon as it differs from ours.
        wait_until(
            lambda: Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink(),
            "the namespace",
        )
        ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", pid)
        ip("addr", "add", f"{far}.1/30", "dev", near)
        ip("link", "set", near, "up")
        inside = ("nsenter", "--net", "--target", pid)
        ip("addr", "add", f"{far}.2/30", "dev", "eth0", inside=inside)
        for device in ("eth0", "lo"):
            ip("link", "set", device, "up", inside=inside)
        self._tell()
        assert self._answer() == "ready\n"

    def work(self) -> None:
        """Let it work one round."""
        self._tell()
        assert self._answer() == "done\n"

    def end(self) -> None:
        """Close its input and wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(TIMEOUT_SECONDS)

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def ip(*arguments: str, inside: tuple[str, ...] = ()) -> None:
    """Run ip(8); `inside` is the prefix that enters a namespace."""
    subprocess.run([*inside, "ip", *arguments], check=True, timeout=TIMEOUT_SECONDS)


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """Start this number of hosts, and connect them."""
    ip("link", "set", "lo", "up")
    with ExitStack() as stack:
        made = []
        for i in range(1, number + 1):
            host = Host(i)
            stack.callback(host.end)
            made.append(host)
        for host in made:
            host.connect()
        yield made


def observe(directory: Path, rounds: list[int]) -> dict[str, object]:
    """Let the hosts work, then query Prometheus."""
    with hosts(len(rounds)) as fleet:
        # Two files, since file discovery reads any number of them.
        groups = {
            "rack-1": [{"targets": [f"{host.address}:{PORT}" for host in fleet[:2]]}],
            "rack-2": [{"targets": [f"{host.address}:{PORT}" for host in fleet[2:]]}],
        }
        with prometheus(directory, groups) as observer:
            sends = 'sum(lunatik_socket_operation_duration_seconds_count{operation="send"})'
            everywhere = "count(lunatik_socket_tracer_info)"
            wait_until(lambda: _value(observer, everywhere) == len(rounds), "all hosts")
            for host, number in zip(fleet, rounds, strict=True):
                for _ in range(number):
                    host.work()
            total = sum(rounds) * CALLS
            wait_until(lambda: _value(observer, sends) == total, "the last scrape")
            wait_until(lambda: len(observer.query(RECORDED)) == len(rounds), "the rules")
            return answers(observer, [f"{host.address}:{PORT}" for host in fleet])


def _value(observer: Prometheus, expression: str) -> float | None:
    found = observer.query(expression)
    return found[0][1] if found else None


def answers(observer: Prometheus, instances: list[str]) -> dict[str, object]:
    """The answers to the boards' queries of one moment, for all instances together and for each."""
    now = time.time()
    queries = {asked.where: asked.expression for asked in panel_queries()}

    def ask(where: str, **variables: str) -> list[object]:
        expression = with_variables(queries[where], __rate_interval=WINDOW, **variables)
        return [list(sample) for sample in observer.query(expression, now)]

    return {
        "instances": instances,
        "up": [list(sample) for sample in observer.query("up")],
        "tracers": ask("overview: Tracers: A"),
        "calls": {
            instance: ask("operation: Calls: A", operation="send", instance=instance)
            for instance in (ALL, *instances)
        },
        "failing": ask("operation: Failing: A", operation="connect"),
        "by_instance": ask("operation: p99 by instance: A", operation="send"),
        "in_progress": ask("operation: In flight by instance: A", operation="send"),
        "table": ask("tracer: Tracers: A"),
        "recorded": [list(sample) for sample in observer.query(RECORDED)],
    }


if __name__ == "__main__":
    print(json.dumps(observe(Path(sys.argv[1]), [int(rounds) for rounds in sys.argv[2:]])))
