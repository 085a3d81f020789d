# SPDX-License-Identifier: MIT
"""`lunatik-socket observe`: the demo, traced, with a Prometheus that scrapes it."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from tracer.cli.dashboards import dashboards_directory
from tracer.cli.options import Address, address, metrics_address, seconds, shown
from tracer.errors import PROGRAM, TracerError, UnsupportedError
from tracer.process.command import StartedCommand
from tracer.process.interpreter import own_command
from tracer.process.signals import Signals

__all__ = ["command"]

_METRICS, _PROMETHEUS = ("127.0.0.1", 10435), ("127.0.0.1", 9090)
_COMMITTED = "127.0.0.1:10435"
_FOR_EVER = 1e9
_READY_SECONDS, _END_SECONDS, _LOOK_SECONDS = 30.0, 20.0, 0.1
_CLEANER = "trap '' HUP INT TERM; read -r _; rm -rf -- \"$1\""
_QUERY = "sum by (operation) (rate(lunatik_socket_operation_duration_seconds_count[1m]))"


@click.command("observe")
@click.option(
    "--metrics",
    type=metrics_address,
    metavar="ADDR:PORT",
    default=_METRICS,
    show_default="127.0.0.1:10435",
    help="Where to serve the metrics and the live page.",
)
@click.option(
    "--prometheus",
    type=address,
    metavar="ADDR:PORT",
    default=_PROMETHEUS,
    show_default="127.0.0.1:9090",
    help="Where Prometheus listens.",
)
@click.option(
    "--duration",
    type=seconds,
    metavar="TIME",
    default=_FOR_EVER,
    show_default="until Ctrl-C",
    help="Stop after this time.",
)
def command(*, metrics: Address, prometheus: Address, duration: float) -> int:
    """Trace demo traffic, with a Prometheus.

    Prometheus scrapes the tracer and evaluates the rules and alerts. Everything runs on loopback;
    nothing is left when it ends.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise UnsupportedError(
            "observe with", "prometheus", "not installed", hint="apt-get install prometheus"
        )
    with ExitStack() as stack:
        directory = stack.enter_context(_temporary_directory())
        signals = stack.enter_context(Signals())
        demo = _Part(stack, _demo(metrics, duration), directory / "demo.log", _demo_failure)
        demo.wait_for(f"http://{shown(metrics)}/healthz", signals)
        observer = _Part(
            stack,
            (
                program,
                f"--config.file={_configure(directory, metrics)}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={shown(prometheus)}",
                "--log.level=warn",
            ),
            directory / "prometheus.log",
            lambda last_line: _prometheus_failure(prometheus, last_line),
        )
        observer.wait_for(f"http://{shown(prometheus)}/-/ready", signals)
        _announce(metrics, prometheus)
        _stay((demo, observer), signals)
    return 0


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    """A directory that is removed when this process and its parts have ended, even by SIGKILL.

    A process in a session of its own reads a pipe and removes the directory at its end. The parts
    inherit the pipe's other end, so it ends after the last of them could write.
    """
    read_end, write_end = os.pipe()
    directory = tempfile.mkdtemp(prefix=f"{PROGRAM}-")
    try:
        cleaner = subprocess.Popen(
            ["sh", "-c", _CLEANER, "sh", directory],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        Path(directory).rmdir()
        raise
    os.close(read_end)
    os.set_inheritable(write_end, True)
    try:
        yield Path(directory)
    finally:
        os.close(write_end)
        with suppress(subprocess.TimeoutExpired):
            cleaner.wait(_END_SECONDS)


class _Part:
    """One of the two programs that `observe` runs; its output goes into a log file."""

    def __init__(
        self,
        stack: ExitStack,
        arguments: tuple[str, ...],
        log: Path,
        explain: Callable[[str], TracerError],
    ) -> None:
        self._log, self._explain = log, explain
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.child = StartedCommand(
                arguments, dies_with_us=True, output=descriptor, errors=descriptor
            )
        finally:
            os.close(descriptor)
        stack.enter_context(self.child)
        self.child.release()

    def wait_for(self, url: str, signals: Signals) -> None:
        """Wait until `url` answers; raises TracerError if the program ends instead."""
        give_up = time.monotonic() + _READY_SECONDS
        while self.child.poll() is None and time.monotonic() < give_up:
            arrived = signals.wait(_LOOK_SECONDS)
            if arrived and arrived.number != signal.SIGCHLD:
                raise KeyboardInterrupt
            if _answers(url):
                return
        raise self.failure()

    def failure(self) -> TracerError:
        """Its last line of output as an error."""
        words = self._log.read_text().strip().splitlines() or ["it printed nothing"]
        return self._explain(words[-1])

    def end(self) -> None:
        """Send SIGTERM and wait."""
        give_up = time.monotonic() + _END_SECONDS
        if self.child.poll() is None:
            self.child.send(signal.SIGTERM)
        while self.child.poll() is None and time.monotonic() < give_up:
            time.sleep(_LOOK_SECONDS)


def _demo_failure(last_line: str) -> TracerError:
    return TracerError("run the demo", cause=last_line.removeprefix(f"{PROGRAM}: "))


def _prometheus_failure(where: Address, last_line: str) -> TracerError:
    found = re.search(r'err="([^"]*)"', last_line)
    return TracerError(
        "start Prometheus on",
        shown(where),
        found[1] if found else last_line,
        hint="choose another with --prometheus",
    )


def _demo(metrics: Address, duration: float) -> tuple[str, ...]:
    return own_command("demo", "--metrics", shown(metrics), "--duration", str(duration), "--quiet")


def _configure(directory: Path, metrics: Address) -> Path:
    """Copy the configuration, with the address of this exporter as its target."""
    copy = directory / "prometheus"
    shutil.copytree(dashboards_directory() / "prometheus", copy)
    path = copy / "prometheus.yml"
    path.write_text(path.read_text().replace(_COMMITTED, shown(metrics)))
    return path


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _announce(metrics: Address, prometheus: Address) -> None:
    query = urllib.parse.urlencode({"g0.expr": _QUERY, "g0.tab": 0, "g0.range_input": "5m"})
    click.echo(f"live page   http://{shown(metrics)}/")
    click.echo(f"metrics     http://{shown(metrics)}/metrics")
    click.echo(f"Prometheus  http://{shown(prometheus)}/graph?{query}")
    click.echo(f"alerts      http://{shown(prometheus)}/alerts")
    click.echo("Ctrl-C ends everything")


def _stay(parts: tuple[_Part, ...], signals: Signals) -> None:
    """Wait until one part ends or a signal comes; raises TracerError if a part failed."""
    stopped = False
    while not stopped and all(part.child.poll() is None for part in parts):
        arrived = signals.wait(1.0)
        stopped = arrived is not None and arrived.number != signal.SIGCHLD
    # Ctrl-C in a terminal reaches the parts too: their exit status then says nothing.
    failed = [part for part in parts if part.child.poll() and not stopped]
    for part in parts:
        part.end()
    if failed:
        raise failed[0].failure()
