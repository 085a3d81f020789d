# SPDX-License-Identifier: MIT
"""One run serves all waiting threads. No thread gets a result older than its call."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracer.exporter import shared as shared_module
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
    _call_on_wait(shared, waiting.release)
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


def test_calls_one_after_another_run_each_time() -> None:
    numbers = iter(range(3))
    shared = Shared(lambda: next(numbers))
    assert [shared.get() for _ in range(3)] == [0, 1, 2]


def test_a_flood_shares_results_that_are_young(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(shared_module.time, "monotonic", lambda: now[0])
    numbers = iter(range(1000))
    shared = Shared(lambda: next(numbers))

    def run_each(count: int, pause: float) -> list[int]:
        found = []
        for _ in range(count):
            now[0] += pause
            found.append(shared.get())
        return found

    first = run_each(shared_module.FLOOD_RUNS, 0.01)
    assert first == list(range(shared_module.FLOOD_RUNS))
    # From now on one run each 100 ms.
    assert len(set(run_each(30, 0.01))) == 4
    now[0] += 2
    assert len(set(run_each(5, 0.01))) == 5


def test_a_failed_run_raises_only_in_the_thread_that_ran_it() -> None:
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


def test_a_thread_that_shares_a_failed_run_gets_a_new_run() -> None:
    is_in, go_on, waiting = threading.Event(), threading.Event(), threading.Semaphore(0)
    answers = iter([0, ValueError("broken"), 5])

    def function() -> int:
        answer = next(answers)
        is_in.set()
        assert go_on.wait(WAIT_SECONDS)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    shared = Shared(function)
    _call_on_wait(shared, waiting.release)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.get)
        assert is_in.wait(WAIT_SECONDS)
        two = [pool.submit(shared.get) for _ in range(2)]
        for _ in two:
            assert waiting.acquire(timeout=WAIT_SECONDS)
        go_on.set()
        assert first.result(WAIT_SECONDS) == 0
        errors = [one.exception(WAIT_SECONDS) for one in two]
    failed = [error for error in errors if error is not None]
    assert [str(error) for error in failed] == ["broken"]
    assert [one.result() for one in two if one.exception() is None] == [5]


def _call_on_wait(shared: Shared[int], tell: Callable[[], object]) -> None:
    real_wait = shared._changed.wait

    def wait(timeout: float | None = None) -> bool:
        tell()
        return real_wait(timeout)

    shared._changed.wait = wait  # type: ignore[method-assign]
