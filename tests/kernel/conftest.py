"""Tests on a real kernel: they need root and fail without it; nothing here can be pretended."""

import os
from collections.abc import Iterator

import pytest

from tracer.config import Config, Filter
from tracer.session import Session


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests in tests/kernel load BPF programs: run them as root", returncode=3)


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    """A session on this process and the children it makes."""
    with Session(Config(filter=Filter(pids=(os.getpid(),), follow_forks=True))) as running:
        assert running.failures == {}
        yield running
