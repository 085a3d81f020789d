# SPDX-License-Identifier: MIT
"""The command line and the steps of a test ring, the same for kernels and userlands."""

import argparse
import fcntl
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.vm import results
from tests.vm.mirror import MirrorError
from tests.vm.results import Result

__all__ = ["PROJECT", "NotStartedError", "Place", "PlaceError", "main", "pytest_command"]

PROJECT = Path(__file__).resolve().parents[2]
EXIT_BAD = 1


class PlaceError(Exception):
    """The place where the tests should run did not start or did not finish."""


class NotStartedError(PlaceError):
    """It gave no output at all; a second try may succeed."""


@dataclass(frozen=True)
class Place:
    """Where one run takes place: *facts* for the table, and *run*, which runs pytest there.

    *run* takes pytest's arguments, the directory for results, a time limit in seconds, and a
    function to call with each line of output; it returns pytest's exit status.
    """

    facts: dict[str, str]
    run: Callable[[Sequence[str], Path, float, Callable[[str], None]], int]


def main(
    kind: str,
    description: str,
    names: Sequence[str],
    prepare: Callable[[str, bool], Place],
    *,
    jobs: int = 1,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run pytest in the given places; returns the exit status.

    *kind* is the heading of the table, *names* are the known places, and *prepare* makes one of
    them ready (from scratch if its second argument is true). *jobs* of them run at the same time,
    unless the command line says otherwise.
    """
    own, pytest_arguments = split(sys.argv[1:] if arguments is None else arguments)
    options = _options(kind, description, names, own, jobs)

    def run(name: str) -> Result:
        return _one(name, options.results / name, prepare, pytest_arguments, options)

    with _alone_in(options.results):
        outcome = _each(run, options.names or names, options.jobs)
        results.keep(outcome, options.results / "results.json", names)
    print(f"\n{results.table(kind, outcome)}\n", *results.explain(outcome), sep="\n", flush=True)
    return 0 if all(result.good for result in outcome) else EXIT_BAD


def _each(run: Callable[[str], Result], names: Sequence[str], jobs: int) -> list[Result]:
    """The result of each, with *jobs* of them at the same time, in the order of *names*."""
    results: dict[str, Result] = {}
    waiting = list(reversed(names))

    def work() -> None:
        while waiting:
            name = waiting.pop()
            results[name] = run(name)

    # Daemons, so that Ctrl-C ends this process, and what the threads started ends with them.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(names)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[name] for name in names]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the ring's arguments from pytest's, at the first "--"."""
    listed = list(arguments)
    at = listed.index("--") if "--" in listed else len(listed)
    return listed[:at], listed[at + 1 :]


def pytest_command(
    python: str, arguments: Sequence[str], junit: str, *, timeout: float, default: Sequence[str]
) -> str:
    """Return the shell command that runs pytest on the project.

    *default* is used when *arguments* name no path; *timeout* (s) is for each test.
    """
    paths = [argument for argument in arguments if Path(PROJECT, argument.split("::")[0]).exists()]
    command = [
        python, "-m", "pytest", "-c", "pyproject.toml", "-o", f"timeout={timeout:.0f}",
        # A test that hangs fails without ending pytest; the ring has a time limit of its own. A
        # slow test prints its stack.
        "-o", "timeout_method=signal", "-o", f"faulthandler_timeout={timeout / 2:.0f}",
        "--continue-on-collection-errors", "--verbose", "--color=no",
        f"--junit-xml={junit}", *arguments, *([] if paths else default),
    ]  # fmt: skip
    return f"cd {shlex.quote(str(PROJECT))} && {shlex.join(command)}"


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the lock of *directory*; wait while another ring writes its results there."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f'waiting for another ring that writes to "{directory}"; or use --results',
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _one(
    name: str,
    directory: Path,
    prepare: Callable[[str, bool], Place],
    pytest_arguments: Sequence[str],
    options: argparse.Namespace,
) -> Result:
    def show(line: str) -> None:
        print(f"{name} | {line}", flush=True)

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    begin, facts, status, trouble, first_try = time.monotonic(), {}, None, "", ""
    try:
        place = prepare(name, options.refresh)
        facts = place.facts
        begin = time.monotonic()  # downloads do not count as test time
        try:
            status = place.run(pytest_arguments, directory, options.timeout, show)
        except NotStartedError as error:
            first_try = str(error)
            show(f"{first_try}\nNOT STARTED; this is the second and last try")
            status = place.run(pytest_arguments, directory, options.timeout, show)
    except (PlaceError, MirrorError) as error:
        trouble = str(error)
        show(trouble)
    seconds = time.monotonic() - begin
    if trouble:
        return Result(name, status, seconds, facts, trouble=trouble, first_try=first_try)
    result = results.read(name, status, seconds, directory / "junit.xml", facts)
    return replace(result, first_try=first_try)


def _options(
    kind: str, description: str, names: Sequence[str], arguments: Sequence[str], jobs: int
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage=f"%(prog)s [options] [{kind} ...] [-- pytest arguments]", description=description
    )
    parser.add_argument("names", nargs="*", metavar=kind, help=f"{', '.join(names)}; default: all")
    parser.add_argument(
        "--timeout", type=float, default=3600, metavar="SECONDS",
        help="time limit of one run, with the boot (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=jobs, metavar="N",
        help=f"how many {kind}s to test at the same time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=PROJECT / "build" / "rings" / f"{kind}s", metavar="DIR",
        help="directory for reports and logs (default: build/rings)",
    )  # fmt: skip
    parser.add_argument(
        "--refresh", action="store_true", help="fetch again what is already in the cache"
    )
    options = parser.parse_args(arguments)
    for unknown in set(options.names) - set(names):
        parser.error(f'unknown {kind} "{unknown}": expected {", ".join(names)}')
    return options
