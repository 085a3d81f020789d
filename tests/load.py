# SPDX-License-Identifier: MIT
"""Traffic for a server or a proxy, checked byte by byte: compiles and runs `load.c`.

    with Target() as target, a_proxy() as port:
        result = echo_clients(target.echo, proxy=port, clients=1000, requests=100_000, together=1)
        assert result.failed == 0

It is also a command: `python tests/load.py --help`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Download", "Echoes", "Target", "download", "echo_clients", "program"]

_SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True)
class Echoes:
    """The result of `echo_clients`. `most_at_once`: connections that were open at the same time."""

    requests: int
    failed: int
    connections: int
    bytes: int
    most_at_once: int
    seconds: float
    first_failure: str


@dataclass(frozen=True)
class Download:
    """The result of `download`; every byte was right."""

    bytes: int
    seconds: float


def program() -> Path:
    """Return the compiled load.c; compile it if this version of it is not compiled yet."""
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    folder = _SOURCE.parent.parent / "build"
    compiled = folder / f"load-{version}"
    if not compiled.exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            made = Path(fresh) / "load"
            subprocess.run(
                [
                    os.environ.get("CC", "cc"),
                    "-O2",
                    "-Wall",
                    "-Wextra",
                    "-Werror",
                    "-o",
                    made,
                    _SOURCE,
                ],
                check=True,
                timeout=60,
            )
            made.rename(compiled)  # atomic, because test processes may race here
    return compiled


def echo_clients(port: int, **options: int) -> Echoes:
    """Let many clients send requests to an echo server at `port` and check its answers.

    Options as in load.c: proxy, version, clients, requests, each, bytes, together, seconds.
    Failures are counted in the result, not raised.
    """
    return Echoes(**_run("echo", port, options))


def download(port: int, **options: int) -> Download:
    """Read `bytes` bytes from a source at `port`; raise CalledProcessError if any is wrong."""
    seconds = options.get("seconds", 60)
    done = subprocess.run(
        _command("download", port, options),
        check=True,
        stdout=subprocess.PIPE,
        timeout=seconds + 10,
    )
    return Download(**json.loads(done.stdout))


def _command(mode: str, port: int, options: dict[str, int]) -> list[str]:
    return [str(program()), mode, str(port), *(f"{name}={n}" for name, n in options.items())]


def _run(mode: str, port: int, options: dict[str, int]) -> dict[str, int | float | str]:
    seconds = options.get("seconds", 60)
    done = subprocess.run(
        _command(mode, port, options),
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 10,
    )
    if not done.stdout:
        raise RuntimeError(
            f"load {mode} failed with status {done.returncode}: {done.stderr.strip()}"
        )
    return json.loads(done.stdout)


class Target:
    """A process with an echo port and a source port on 127.0.0.1; it ends with the context."""

    echo: int
    source: int

    def __enter__(self) -> "Target":
        self._process = subprocess.Popen(
            [program(), "target"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.echo, self.source = ports["echo"], ports["source"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)


def main() -> None:
    """Send requests through a proxy or directly to an echo server, and print the result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--proxy", type=int, default=0, help="port of a SOCKSv4 proxy on 127.0.0.1")
    parser.add_argument("--echo", type=int, help="port of an echo server (default: start one)")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument(
        "--each", type=int, default=0, help="requests per connection (default: all)"
    )
    parser.add_argument("--bytes", type=int, default=64, help="size of a request")
    wanted = vars(parser.parse_args())
    with Target() as target:
        port = wanted.pop("echo") or target.echo
        together = 0 if wanted["each"] else 1
        print(json.dumps(echo_clients(port, together=together, **wanted).__dict__))


if __name__ == "__main__":
    main()
