# SPDX-License-Identifier: MIT
"""The command line and the course of a ring: the same for kernels and for userlands."""

import argparse
import fcntl
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import results
from tests.vm.mirror import MirrorError
from tests.vm.results import Result

__all__ = ["PROJECT", "Place", "PlaceError", "main", "pytest_command"]

PROJECT = Path(__file__).resolve().parents[2]
EXIT_BAD = 1


class PlaceError(Exception):
    """The place where the tests should run did not come up or did not come to its end."""


@dataclass(frozen=True)
class Place:
    """Where one run takes place: *facts* for the table, *run* gives pytest's exit status.

    *run* takes pytest's arguments, the directory for results, a time limit in seconds, and what
    to do with a line of output.
    """

    facts: dict[str, str]
    run: Callable[[Sequence[str], Path, float, Callable[[str], None]], int]


def main(
    kind: str,
    description: str,
    names: Sequence[str],
    prepare: Callable[[str, bool], Place],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run pytest in the places asked for, one after the other; returns the exit status.

    *kind* heads the table, *names* are the places known, and *prepare* makes one of them ready
    (anew when its second argument is true).
    """
    own, pytest_arguments = split(sys.argv[1:] if arguments is None else arguments)
    options = _options(kind, description, names, own)
    with _alone_in(options.results):
        outcome = [
            _one(name, options.results / name, prepare, pytest_arguments, options)
            for name in options.names or names
        ]
        results.keep(outcome, options.results / "results.json", names)
    print(f"\n{results.table(kind, outcome)}\n", *results.explain(outcome), sep="\n", flush=True)
    return 0 if all(result.good for result in outcome) else EXIT_BAD


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the ring's arguments from pytest's, at "--"."""
    listed = list(arguments)
    at = listed.index("--") if "--" in listed else len(listed)
    return listed[:at], listed[at + 1 :]


def pytest_command(
    python: str, arguments: Sequence[str], junit: str, *, timeout: float, default: Sequence[str]
) -> str:
    """Return the shell command that runs pytest on the project.

    *default* is what to test when *arguments* name no path; *timeout* (s) is for each test.
    """
    paths = [argument for argument in arguments if Path(PROJECT, argument.split("::")[0]).exists()]
    command = [
        python, "-m", "pytest", "-c", "pyproject.toml", "-o", f"timeout={timeout:.0f}",
        # A test that hangs fails alone; the ring has a limit for the whole run. One that is slow
        # says where it is.
        "-o", "timeout_method=signal", "-o", f"faulthandler_timeout={timeout / 2:.0f}",
        "--continue-on-collection-errors", "--verbose", "--color=no",
        f"--junit-xml={junit}", *arguments, *([] if paths else default),
    ]  # fmt: skip
    return f"cd {shlex.quote(str(PROJECT))} && {shlex.join(command)}"


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other ring writes its results to *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f'waiting for the ring that writes to "{directory}"; or use --results', flush=True
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
    begin, facts, status, trouble = time.monotonic(), {}, None, ""
    try:
        place = prepare(name, options.refresh)
        facts = place.facts
        begin = time.monotonic()  # what had to be fetched first is not the tests' time
        status = place.run(pytest_arguments, directory, options.timeout, show)
    except (PlaceError, MirrorError) as error:
        trouble = str(error)
        show(trouble)
    seconds = time.monotonic() - begin
    if trouble:
        return Result(name, status, seconds, facts, trouble=trouble)
    return results.read(name, status, seconds, directory / "junit.xml", facts)


def _options(
    kind: str, description: str, names: Sequence[str], arguments: Sequence[str]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage=f"%(prog)s [options] [{kind} ...] [-- pytest arguments]", description=description
    )
    parser.add_argument(
        "names", nargs="*", metavar=kind, help=f"{', '.join(names)}; all of them when none is given"
    )
    parser.add_argument(
        "--timeout", type=float, default=900, metavar="SECONDS",
        help="for one run with all that belongs to it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--results", type=Path, default=PROJECT / "build" / "rings" / f"{kind}s", metavar="DIR",
        help="where reports and logs go (default: build/rings)",
    )  # fmt: skip
    parser.add_argument(
        "--refresh", action="store_true", help="fetch anew what the cache has already"
    )
    options = parser.parse_args(arguments)
    for unknown in set(options.names) - set(names):
        parser.error(f'unknown {kind} "{unknown}": expected {", ".join(names)}')
    return options
