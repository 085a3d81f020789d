# SPDX-License-Identifier: MIT
"""Several hosts in one Prometheus: the boards show their sum and each host alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.workload import CALLS

pytestmark = pytest.mark.skipif(
    "LUNATIK_SOCKET_RING" in os.environ,
    reason="does not depend on the kernel: `make test` runs it on the host",
)

ROUNDS = (1, 2, 4)
Answers = dict[str, Any]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    directory = tmp_path_factory.mktemp("fleet")
    command = [
        "unshare",
        "--net",
        sys.executable,
        "-m",
        "tests.kernel.exporter.fleet",
        str(directory),
    ]
    done = subprocess.run(
        [*command, *map(str, ROUNDS)],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found: Answers = json.loads(done.stdout)
    return found


def test_every_host_is_found_and_up(answers: Answers) -> None:
    assert {labels["instance"] for labels, _ in answers["up"]} == set(answers["instances"])
    assert {labels["job"] for labels, _ in answers["up"]} == {"lunatik-socket"}
    assert {value for _, value in answers["up"]} == {1}
    assert answers["tracers"] == [[{}, len(ROUNDS)]]
    assert {labels["instance"] for labels, _ in answers["table"]} == set(answers["instances"])


def test_selecting_an_instance_shows_it_alone(answers: Answers) -> None:
    alone = [answers["calls"][instance][0][1] for instance in answers["instances"]]
    for calls, rounds in zip(alone, ROUNDS, strict=True):
        # Prometheus extrapolates to the end of the window by up to one scrape interval.
        assert rounds * CALLS / 60 <= calls * (1 + 1e-9)
        assert calls <= 2 * rounds * CALLS / 60
    assert alone == sorted(alone)


def test_all_instances_are_their_sum(answers: Answers) -> None:
    (everything,) = answers["calls"][".*"]
    each = sum(answers["calls"][instance][0][1] for instance in answers["instances"])
    # All are of the same moment, but a scrape may be stored between two of the queries.
    assert everything[1] == pytest.approx(each, rel=0.25)


def test_ratios_are_of_all_calls_and_not_means_of_ratios(answers: Answers) -> None:
    ((_, share),) = answers["failing"]
    assert share == pytest.approx(CALLS / (CALLS + 1), rel=1e-3)


def test_hosts_are_shown_separately(answers: Answers) -> None:
    instances = set(answers["instances"])
    for name in ("by_instance", "in_progress", "recorded"):
        assert {labels["instance"] for labels, _ in answers[name]} == instances
