# SPDX-License-Identifier: MIT
"""Tests on a real kernel. They need root and fail without it."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.loader_server import LoaderServer
from tests.kernel.mechanisms import require
from tracer.kernel.mechanisms import MECHANISMS, works
from tracer.loading import parent
from tracer.model.config import Config, Filter
from tracer.session import Session

RING = os.environ.get("LUNATIK_SOCKET_RING", "")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the VM ring, show a failure at once: the guest may die before pytest's own report."""
    if report.failed and RING.startswith("kernel/"):
        print(f"\n{report.longreprtext}", flush=True)


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests in tests/kernel load BPF programs: run them as root", returncode=3)


@pytest.fixture(scope="session", autouse=True)
def _mechanisms(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Record the mechanisms that work, for the tables of the test rings."""
    record_testsuite_property("mechanisms", ", ".join(filter(works, MECHANISMS)))


@pytest.fixture(autouse=True)
def _sockets_of_earlier_tests_are_closed() -> None:
    """Collect garbage, or a socket that an earlier test left is closed while this test counts."""
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _loader_server() -> Iterator[None]:
    """In the VM ring, the loader is forked, which saves most of its time."""
    if not RING.startswith("kernel/"):
        yield
        return
    server = LoaderServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parent, "_start_loader", server.start)
        yield
    server.close()


@pytest.fixture(scope="session")
def sessions() -> Iterator[Callable[[str], Session]]:
    """Return a session for a mechanism, which traces this process and its children.

    Each is started once for all tests, because a start takes a minute in the VM.
    """
    made: dict[str, Session] = {}
    with ExitStack() as stack:

        def session_by(mechanism: str) -> Session:
            require(mechanism)
            if mechanism not in made:
                chosen = Filter(pids=(os.getpid(),), follow_forks=True)
                made[mechanism] = stack.enter_context(
                    Session(Config(filter=chosen, mechanism=mechanism))
                )
            return made[mechanism]

        yield session_by


@pytest.fixture
def session(sessions: Callable[[str], Session]) -> Session:
    """The operation layer, tracing this process and its children."""
    running = sessions("tracepoint")
    assert running.failures == {}
    return running


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of our own, below the root of cgroup2, with one inside it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    assert roots, "cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    path = roots[0] / f"lunatik-socket-test-{os.getpid()}"
    inner = path / "inner"
    inner.mkdir(parents=True)
    yield path
    inner.rmdir()
    path.rmdir()
