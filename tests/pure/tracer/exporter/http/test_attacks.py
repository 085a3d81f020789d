# SPDX-License-Identifier: MIT
"""Under attack, a legitimate client's scrape succeeds: from the attacker's address and another.

ATTACK_SECONDS=60 attacks for a minute, and then no scrape may take longer than a second. That is
for a machine without other work: `make test-long` sets it.
"""

import os
import socket
import subprocess
import time
from http.client import HTTPResponse
from statistics import median

import pytest

from tests.pure.tracer.exporter.http.attacks import (
    ATTACKS,
    Attack,
    attacking,
    scrape_until,
)
from tests.pure.tracer.exporter.http.served import exporter

SECONDS = float(os.environ.get("ATTACK_SECONDS", "2"))
IS_LONG = SECONDS >= 60


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    with open(f"/proc/{process.pid}/stat") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=lambda attack: attack.name)
def test_a_scrape_succeeds_under_attack(attack: Attack, source: str) -> None:
    with exporter() as (address, _), attacking(attack, address, source):
        found = scrape_until(time.monotonic() + SECONDS, address, "127.0.0.1")
    assert found.failed == []
    assert median(found.seconds) < 1
    if IS_LONG:
        assert max(found.seconds) < 1


@pytest.mark.timeout(SECONDS + 100)
def test_without_descriptors_scrapes_succeed_and_the_processor_is_idle() -> None:
    silent = ATTACKS["64 silent connections"]
    with exporter(open_files=24) as (address, process), attacking(silent, address, "127.0.0.1"):
        before, begun = cpu_seconds(process), time.monotonic()
        found = scrape_until(begun + SECONDS, address, "127.0.0.1")
        used = (cpu_seconds(process) - before) / (time.monotonic() - begun)
    assert found.failed == []
    assert used < 0.8


def test_refusals_are_logged_once_with_their_number() -> None:
    silent = ATTACKS["64 silent connections"]
    with exporter() as (address, process):
        with attacking(silent, address, "127.0.0.1"):
            scrape_until(time.monotonic() + 1, address, "127.0.0.1")
        _, errors = process.communicate(timeout=60)
    what = "refused: connections closed to make room for new ones: 1"
    assert errors == f"{what} (the last from 127.0.0.1)\n"


def order(process: "subprocess.Popen[str]", what: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def ask(client: socket.socket) -> int:
    """The status of a whole answer: its head and its body may arrive one after the other."""
    client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
    with HTTPResponse(client) as answer:
        answer.begin()
        answer.read()
        return answer.status


def test_without_descriptors_an_idle_connection_makes_way() -> None:
    with exporter() as (address, process), socket.create_connection(address, 60) as idle:
        assert ask(idle) == 200
        order(process, "use up the descriptors")
        with socket.create_connection(address, 60) as late:
            assert ask(late)
            assert idle.recv(1) == b""


def test_without_descriptors_and_connections_the_processor_is_idle() -> None:
    with exporter() as (address, process):
        order(process, "use up the descriptors")
        with socket.create_connection(address, 60) as late:
            late.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            late.settimeout(2)
            before = cpu_seconds(process)
            with pytest.raises(TimeoutError):
                late.recv(1)
            assert cpu_seconds(process) - before < 0.3
            late.settimeout(60)
            order(process, "give them back")
            assert late.recv(65536).startswith(b"HTTP/1.1 200 ")
