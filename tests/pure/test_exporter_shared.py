"""One run serves all who wait; nobody is served with a run that began before he came."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracer.exporter.shared import Shared

WAIT_SECONDS = 20


def test_ten_at_once_cost_two_runs() -> None:
    runs = 0
    first_is_in, go_on = threading.Event(), threading.Event()
    waiting = threading.Semaphore(0)

    def function() -> int:
        nonlocal runs
        runs += 1
        first_is_in.set()
        assert go_on.wait(WAIT_SECONDS)
        return runs

    shared = Shared(function)
    _tell_of_waiting(shared, waiting.release)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(shared.get)
        assert first_is_in.wait(WAIT_SECONDS)
        others = [pool.submit(shared.get) for _ in range(9)]
        for _ in others:
            assert waiting.acquire(timeout=WAIT_SECONDS)
        go_on.set()
        assert first.result(WAIT_SECONDS) == 1
        assert [other.result(WAIT_SECONDS) for other in others] == [2] * 9
    assert runs == 2


def test_each_call_after_another_runs_anew() -> None:
    numbers = iter(range(3))
    shared = Shared(lambda: next(numbers))
    assert [shared.get() for _ in range(3)] == [0, 1, 2]


def test_a_failed_run_is_its_caller_s_alone() -> None:
    answers = iter([ValueError("broken"), 5])

    def function() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    shared = Shared(function)
    with pytest.raises(ValueError, match=r"^broken$"):
        shared.get()
    assert shared.get() == 5


def test_who_waits_for_a_run_that_fails_runs_anew() -> None:
    is_in, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    answers = iter([0, ValueError("broken"), 5])

    def function() -> int:
        answer = next(answers)
        if isinstance(answer, ValueError):
            is_in.set()
            assert go_on.wait(WAIT_SECONDS)
            raise answer
        return answer

    shared = Shared(function)
    assert shared.get() == 0
    _tell_of_waiting(shared, waits.set)
    with ThreadPoolExecutor(3) as pool:
        failing = pool.submit(shared.get)
        assert is_in.wait(WAIT_SECONDS)
        waiting = pool.submit(shared.get)
        assert waits.wait(WAIT_SECONDS)
        go_on.set()
        with pytest.raises(ValueError, match=r"^broken$"):
            failing.result(WAIT_SECONDS)
        assert waiting.result(WAIT_SECONDS) == 5


def _tell_of_waiting(shared: Shared[int], tell: Callable[[], object]) -> None:
    real_wait = shared._changed.wait

    def wait(timeout: float | None = None) -> bool:
        tell()
        return real_wait(timeout)

    shared._changed.wait = wait  # type: ignore[method-assign]
