# SPDX-License-Identifier: MIT
"""Which rights the processes of a running tracer have, and what is left when one is killed."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import (
    ROOT,
    TIMEOUT_SECONDS,
    free_port,
    read_until,
    run,
    started,
)
from tests.pure.tracer.exporter.http.certificates import Certificates

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NETWORK_TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
pytestmark = ROOT_ONLY


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descendants(pid: int) -> Iterator[int]:
    """The process and all processes below it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from descendants(int(child))


def network_sockets(pid: int) -> set[str]:
    """The inodes of its sockets of IPv4 and IPv6."""
    inodes = set()
    for table in NETWORK_TABLES:
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            inodes.add(f"socket:[{line.split()[9]}]")
    links = (link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir())
    return inodes & set(links)


@contextlib.contextmanager
def traced_proxy() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """What `make run` starts, on free ports; the process and the URL of the metrics."""
    metrics, proxy = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = ("--listen", proxy, "--metrics", metrics, "--no-live", "--duration", "120")
    with started("serve", "socks4", "--trace", *options) as process:
        read_until(process, "metrics on")
        url = f"http://{metrics}/metrics"
        # The proxy listens before it is confined; its answer comes after that.
        fetch = ("curl", "-s", "-o", "/dev/null", "--retry", "9", "--retry-connrefused")
        subprocess.run([*fetch, "--socks4", proxy, url], check=True, timeout=TIMEOUT_SECONDS)
        yield process, url


def worker_of(pid: int) -> int:
    """The process below it that has a network socket and none below itself is the tracer's."""
    return next(one for one in descendants(pid) if "bpf-map" in names_of(one) and one != pid)


def names_of(pid: int) -> str:
    return " ".join(os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115


def test_no_process_with_a_network_socket_has_any_right() -> None:
    with traced_proxy() as (process, _):
        facing = {pid for pid in descendants(process.pid) if network_sockets(pid)}
        assert len(facing) == 2  # the proxy and the exporter
        for pid in facing:
            found = status(pid)
            assert found["Uid"].split() != ["0"] * 4
            assert "0" not in found["Uid"].split() + found["Gid"].split()
            assert found["Groups"] == ""
            assert {name: int(found[name], 16) for name in CAPABILITY_SETS} == dict.fromkeys(
                CAPABILITY_SETS, 0
            )
            assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_the_broker_is_confined_too_and_has_no_network_socket() -> None:
    with traced_proxy() as (process, _):
        found = status(process.pid)
        assert network_sockets(process.pid) == set()
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        assert (int(found["CapBnd"], 16), int(found["CapInh"], 16)) == (0, 0)
        assert not int(found["CapEff"], 16) & 1 << 21  # CAP_SYS_ADMIN


def test_the_worker_holds_only_maps_of_the_kernel_side() -> None:
    with traced_proxy() as (process, _):
        held = set(re.findall(r"bpf[-_]\w+|perf_event", names_of(worker_of(process.pid))))
    assert held == {"bpf-map"}


def test_the_worker_and_the_broker_are_not_traced() -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with started("trace", "--by", "pid", "--metrics", metrics, "--json") as process:
        assert process.stderr is not None
        assert "metrics on" in process.stderr.readline()
        pids = list(descendants(process.pid))
        for _ in range(3):
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=20) as page:
                page.read()
        process.send_signal(signal.SIGTERM)
        document, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    labels = {series["pid"] for series in json.loads(document)["operations"]}
    assert str(os.getpid()) in labels
    assert labels.isdisjoint(map(str, pids))


@pytest.mark.parametrize("which", ["broker", "worker"])
def test_neither_outlives_the_other(which: str) -> None:
    with traced_proxy() as (process, _):
        pids = list(descendants(process.pid))
        descriptors = [os.pidfd_open(pid) for pid in pids[1:]]
        os.kill(process.pid if which == "broker" else worker_of(process.pid), signal.SIGKILL)
        until = time.monotonic() + TIMEOUT_SECONDS
        for descriptor in descriptors:
            assert select.select([descriptor], [], [], until - time.monotonic())[0]
            os.close(descriptor)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    if which == "worker":
        assert process.returncode == 3
        assert "SIGKILL ended the process that reads the maps" in errors


def test_a_command_runs_as_the_user_behind_sudo() -> None:
    environment = os.environ | {"SUDO_UID": "1", "SUDO_GID": "1"}
    done = run("trace", "--operation", "bind", "-q", "--", "id", "-u", env=environment)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_user_root_keeps_root() -> None:
    environment = os.environ | {"SUDO_UID": "1", "SUDO_GID": "1"}
    options = ("--operation", "bind", "-q", "--user", "root")
    done = run("trace", *options, "--", "id", "-u", env=environment)
    assert (done.returncode, done.stdout) == (0, "0\n")


def test_a_command_runs_as_the_given_user_with_its_groups() -> None:
    options = ("--operation", "bind", "-q", "--user", "daemon")
    done = run("trace", *options, "--", "sh", "-c", "id -un; id -Gn; echo $HOME")
    groups = subprocess.run(["id", "-Gn", "daemon"], check=True, capture_output=True, text=True)
    assert done.stdout == f"daemon\n{groups.stdout}/usr/sbin\n"


def test_an_unknown_user_is_one_line() -> None:
    done = run("trace", "--no-metrics", "--user", "no-such-user", "--", "true")
    assert done.stderr == (
        'lunatik-socket: cannot run as user "no-such-user": no such user; '
        "getent passwd lists all users\n"
    )
    assert done.returncode == 2


@pytest.mark.parametrize("entries", ["", f":{ROOT}:"])
def test_nothing_is_imported_from_the_current_directory(tmp_path: Path, entries: str) -> None:
    """`doctor` and the loader start interpreters; json is imported by both."""
    (tmp_path / "json.py").write_text("open('imported', 'w')\nraise SystemExit(9)\n")
    code = f"""
import sys
sys.path[0] = {str(ROOT)!r}
import json, os
os.environ["PYTHONPATH"] = {entries!r}
os.chdir({str(tmp_path)!r})
from tracer.cli import main
main(["doctor"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "imported").exists()


def test_a_changed_web_configuration_that_only_root_can_read(tmp_path: Path) -> None:
    """The worker cannot read it; the broker reads it, and no file that it does not name."""
    made = Certificates(tmp_path)
    text = (
        "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n"
        "http_server_config: {{headers: {{X-Frame-Options: {}}}}}\n"
    )
    config = made.config(text.format("deny"))
    for file in (tmp_path, *tmp_path.iterdir()):
        file.chmod(0o700 if file.is_dir() else 0o600)
    with started("trace", "--metrics", "127.0.0.1:0", "--web.config.file", config) as process:
        url = read_until(process, "metrics on https://").rpartition(" ")[2]
        port = url.rpartition(":")[2].split("/")[0]
        curl = ["curl", "-sSi", "--cacert", made.ca, f"https://localhost:{port}/healthz"]
        assert "x-frame-options: deny" in subprocess.check_output(curl, text=True).lower()
        Path(config).write_text(text.format("sameorigin"))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while "sameorigin" not in subprocess.check_output(curl, text=True).lower():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert "configuration" not in process.communicate(timeout=TIMEOUT_SECONDS)[1]
