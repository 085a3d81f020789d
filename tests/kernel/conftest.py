# SPDX-License-Identifier: MIT
"""Tests on a real kernel. They need root and fail without it."""

import gc
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
    """Record the mechanisms that work, for the tables of the test rings."""
    record_testsuite_property("mechanisms", ", ".join(filter(works, MECHANISMS)))


@pytest.fixture(autouse=True)
def _sockets_of_earlier_tests_are_closed() -> None:
    """Collect garbage, or a socket that an earlier test left is closed while this test counts."""
    gc.collect()


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
