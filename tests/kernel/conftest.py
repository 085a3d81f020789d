# SPDX-License-Identifier: MIT
"""Tests on a real kernel: they need root and fail without it; nothing here can be pretended."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.kernel.mechanisms import require
from tracer.kernel.mechanisms import MECHANISMS, works
from tracer.model.config import Config, Filter
from tracer.session import Session


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests in tests/kernel load BPF programs: run them as root", returncode=3)


@pytest.fixture(scope="session", autouse=True)
def _mechanisms(record_testsuite_property: Callable[[str, object], None]) -> None:
    """For the rings' tables."""
    record_testsuite_property("mechanisms", ", ".join(filter(works, MECHANISMS)))


@pytest.fixture(scope="session")
def sessions() -> Iterator[Callable[[str], Session]]:
    """A session on this process and the children it makes, by mechanism; each is made once.

    In the VM making one takes a minute.
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
    """The operation layer on this process and the children it makes."""
    running = sessions("tracepoint")
    assert running.failures == {}
    return running
