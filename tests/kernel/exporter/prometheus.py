# SPDX-License-Identifier: MIT
"""A real Prometheus with the committed configuration, but other targets and shorter intervals."""

import json
import math
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.children import TIMEOUT_SECONDS, wait_until
from tests.pure.dashboards.boards import DIRECTORY

__all__ = ["Prometheus", "Sample", "prometheus"]

Sample = tuple[dict[str, str], float]
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


class Prometheus:
    """Queries a running Prometheus over its HTTP API."""

    def __init__(self, port: int, pid: int) -> None:
        self.pid = pid
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """The instant vector of the time `at`, or of now, without NaN."""
        moment = {} if at is None else {"time": at}
        data = self._get("query", query=expression, **moment)
        assert data["resultType"] == "vector", data
        samples = [(one["metric"], float(one["value"][1])) for one in data["result"]]
        return [(labels, value) for labels, value in samples if not math.isnan(value)]

    def value(self, expression: str) -> float:
        """The value of a query with exactly one sample."""
        ((_, value),) = self.query(expression)
        return value

    def range(self, expression: str, start: float, end: float, step: float) -> list[Any]:
        """The series of a range query, as a graph sends it."""
        data = self._get("query_range", query=expression, start=start, end=end, step=step)
        return list(data["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Every target it scrapes."""
        return list(self._get("targets", state="active")["activeTargets"])

    def status(self, name: str) -> Any:
        """One of its status pages."""
        return self._get(f"status/{name}")

    def resident_bytes(self) -> int:
        """Its resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def _get(self, path: str, **parameters: Any) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def prometheus(
    directory: Path,
    groups: Mapping[str, list[dict[str, Any]]] | None = None,
    static: str = "",
    pace_seconds: int = 1,
    job: str = "",
) -> Iterator[Prometheus]:
    """Run it until the end of `with`.

    `static` takes the place of the configuration's one fixed target; `groups` of targets, by file
    name, are found by file service discovery. Scrapes and rules come every `pace_seconds`. `job`
    are lines to add to the settings of the scrape.
    """
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: apt-get install prometheus"
    configuration = _configuration(directory, groups or {}, static, pace_seconds, job)
    log = directory / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--log.level=warn",
            ],
            stdout=output,
            stderr=output,
        )
        try:
            wait_until(lambda: listening_port(process) is not None, "Prometheus to listen")
            port = listening_port(process)
            assert port is not None
            server = Prometheus(port, process.pid)
            wait_until(lambda: _ready(port), "Prometheus to be ready")
            yield server
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)
    # A scrape that is cut off at the end is logged as a warning; errors are not expected.
    errors = [line for line in log.read_text().splitlines() if "level=error" in line]
    assert errors == []


def _configuration(
    directory: Path,
    groups: Mapping[str, list[dict[str, Any]]],
    static: str,
    pace_seconds: int,
    job: str,
) -> Path:
    shutil.copytree(DIRECTORY / "prometheus", directory, dirs_exist_ok=True)
    path = directory / "prometheus.yml"
    text = path.read_text()
    for old, new in {
        "_interval: 15s": f"_interval: {pace_seconds}s",
        "scrape_timeout: 10s": "scrape_timeout: 1s",
        "refresh_interval: 30s": "refresh_interval: 1s",
        'targets: ["127.0.0.1:10435"]': f"targets: [{static}]",
    }.items():
        assert old in text, f"{old} is not in the committed configuration"
        text = text.replace(old, new)
    if job:
        text = text.replace("    static_configs:", f"{job}\n    static_configs:")
    path.write_text(text)
    (directory / "targets").mkdir()
    for name, found in groups.items():
        (directory / "targets" / f"{name}.yml").write_text(json.dumps(found))
    return path


def listening_port(process: subprocess.Popen[bytes]) -> int | None:
    """The port that the process listens on, from /proc, since it does not print it."""
    if process.poll() is not None:
        raise AssertionError(f"ended with {process.returncode}")
    inodes = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found = re.match(r"socket:\[(\d+)\]", str(link.readlink()))
        except FileNotFoundError:
            continue
        if found:
            inodes.add(found[1])
    for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTENING and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    return None


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
