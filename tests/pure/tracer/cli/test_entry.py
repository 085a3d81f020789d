# SPDX-License-Identifier: MIT
"""The command line without tracing: wrong usage, scripts, plain servers."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracer
from tracer.cli import entry

TIMEOUT_SECONDS = 30
PROGRAM = [sys.executable, "-m", "tracer"]


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C works even if the shell ignored it because the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]
    )


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"lunatik-socket {tracer.__version__}\n")


@pytest.mark.parametrize(
    "command", ["", "serve", "serve socks4", "serve echo", "run", "trace", "doctor", "demo"]
)
def test_help_fits_a_terminal_and_describes_every_option(command: str) -> None:
    done = run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    for option in re.findall(r"^  +(--[a-z-]+) +(.*)$", done.stdout, re.MULTILINE):
        assert option[1], f"{option[0]} has no help"


@pytest.mark.parametrize(
    ("call", "content"), [("", "EXAMPLES"), ("serve", "socks4"), ("dashboards", "export")]
)
def test_no_command_prints_the_help_with_status_2(call: str, content: str) -> None:
    done = run(*call.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == run(*call.split(), "--help").stdout
    assert content in done.stderr


@pytest.mark.parametrize("call", ["--version", "trace --help", "doctor", "trace", "serve echo"])
def test_closed_standard_output_is_one_line(call: str) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, *call.split()],
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.stderr == "lunatik-socket: cannot write the output: standard output is closed\n"
    assert done.returncode == 3


def test_it_runs_with_standard_input_and_error_closed() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *PROGRAM, "--version"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"lunatik-socket {tracer.__version__}\n")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (RuntimeError("can't start new thread"), "cannot start a thread: the limit of processes"),
        (MemoryError(), "cannot continue: out of memory"),
    ],
)
def test_a_used_up_resource_is_one_line(
    failure: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(entry.commands, "main", fail)
    with pytest.raises(SystemExit) as ended:
        entry.main([])
    assert ended.value.code == 3
    assert capsys.readouterr().err.startswith(f"lunatik-socket: {message}")


# rich and prometheus_client are slow to load: only what draws or serves may do so.
@pytest.mark.parametrize("command", ["--version", "--help", "trace --help", "serve --help"])
def test_a_start_imports_no_slow_library(command: str) -> None:
    code = (
        "import sys\nfrom tracer.cli import main\n"
        "try:\n main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'rich', 'prometheus_client', 'bcc', 'logging', 'asyncio'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("nosuch", "no such command 'nosuch'; see lunatik-socket --help"),
        ("trace --nosuch", "no such option"),
        ("trace --metrics 1", '"1" is not ADDR:PORT (e.g. 127.0.0.1:1080)'),
        ("trace --pid 0", "0 is not in the range x>=1"),
        ("tarce", "no such command 'tarce' (did you mean 'trace'?); see lunatik-socket --help"),
        (
            "serve sock4",
            "no such command 'sock4' (did you mean 'socks4'?); see lunatik-socket serve",
        ),
        ("trace --duration x", '"x" is not a time from 1ms to 1e9 seconds (e.g. 5s, 2m)'),
        ("trace --duration nan", '"nan" is not a time from 1ms to 1e9 seconds (e.g. 5s, 2m)'),
        ("trace --interval 0", '"0" is not a time from 1ms to 1e9 seconds (e.g. 5s, 2m)'),
        ("serve socks4 --request-timeout inf", '"inf" is not a time from 1ms to 1e9 seconds'),
        ("serve socks4 --connect-timeout 1e12", '"1e12" is not a time from 1ms to 1e9 seconds'),
        ("serve echo --idle-timeout 1000000000000", "is not a time from 1ms to 1e9 seconds"),
        ("trace --by color", "'color' is not one of 'comm', 'pid', 'cgroup', 'port'"),
        ("trace --mechanism x", "'x' is not one of 'auto', 'tracepoint', 'kprobe', 'fentry'"),
        (
            "trace --all --pid 1",
            "--all cannot be combined with --pid, --comm, --cgroup or a COMMAND",
        ),
        ("trace --pid 1 -- ls", "--pid cannot be combined with a COMMAND"),
        ("trace --follow-children", "--follow-children needs --pid"),
        ("serve socks4 --metrics :1", "--metrics needs --trace"),
        ("serve socks4 --web.config.file x", "--web.config.file needs --trace"),
        ("trace --web.config.file nosuch", 'cannot read the web configuration "nosuch": No such'),
        ("trace --no-metrics --web.host x", "--web.host cannot be combined with --no-metrics"),
        ("trace --web.host a:80", '"a:80" is not a host name (e.g. metrics.example.org)'),
        ("serve echo --duration 1", "--duration needs --trace"),
        ("serve socks4 --listen x", '"x" is not ADDR:PORT'),
        ("serve socks4 --max-clients 0", "cannot serve: max_clients must be positive, not 0"),
        ("serve echo --idle-timeout -1", '"-1" is not a time from 1ms to 1e9 seconds'),
        ("run", "missing argument 'SCRIPT'"),
        ("run nosuch.py", 'cannot run "nosuch.py": No such file or directory'),
        ("run nosuch.lua", 'cannot run "nosuch.lua": No such file or directory'),
        ("run --memory 5 x.lua", '"5" is not a size of at least 1M (e.g. 64M, 1G)'),
        ("run --memory 64 M x.lua", '"64" is not a size of at least 1M (e.g. 64M, 1G)'),
        ("run --connect *:80 x.py", "--connect and --listen need --sandbox"),
        ("run --sandbox --connect x.org:80 x.py", '"x.org:80" is not ADDR:PORT'),
        ("run --time 0 x.py", '"0" is not a whole number of seconds (e.g. 10)'),
        ("run --sandbox nosuch.py", 'cannot run "nosuch.py": No such file or directory'),
        ("run x.rb", 'cannot run "x.rb": unknown kind of script; its name must end in .lua or'),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(call: str, message: str) -> None:
    done = run(*call.split())
    assert done.stdout == ""
    assert done.stderr.startswith("lunatik-socket: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("192.0.2.1:5", r'cannot bind to "192.0.2.1:5": .* \(EADDRNOTAVAIL\); the address must be'),
        ("127.0.0.1:{taken}", r"cannot bind to .*: Address already in use \(EADDRINUSE\); choose"),
    ],
)
@pytest.mark.parametrize("server", ["socks4", "echo"])
def test_a_server_that_cannot_listen(server: str, listen: str, message: str) -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", server, "--listen", listen.format(taken=taken.getsockname()[1]))
    assert re.match(f"lunatik-socket: {message}", done.stderr)
    assert done.stderr.count("\n") == 1
    assert done.returncode == 3


@pytest.mark.parametrize(("server", "what"), [("socks4", "proxy"), ("echo", "echo server")])
@pytest.mark.parametrize(("host", "warnings"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_a_server_warns_when_others_can_reach_it(
    server: str, what: str, host: str, warnings: int
) -> None:
    command = [*PROGRAM, "serve", server, "--listen", f"{host}:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        lines = []
        for line in serving.stderr:
            lines.append(line)
            if "listening on" in line:
                break
        serving.send_signal(signal.SIGTERM)
        _, rest = serving.communicate(timeout=TIMEOUT_SECONDS)
    warning = f"lunatik-socket: warning: anyone who can connect to {host}:0 can use the {what}: "
    assert ("".join(lines) + rest).count(warning) == warnings


@pytest.mark.parametrize("server", ["socks4", "echo"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_cleanly(server: str, number: int) -> None:
    command = [*PROGRAM, "serve", server, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        assert "listening on 127.0.0.1:" in serving.stderr.readline()
        serving.send_signal(number)
        try:
            _, errors = serving.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            serving.kill()
    assert "Traceback" not in errors
    assert serving.returncode == 0


def test_a_script_gets_its_arguments_and_gives_its_status(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, lunatik_socket\nprint(sys.argv[1:], __name__)\nsys.exit(23)\n")
    done = run("run", str(script), "a", "--", "--b")
    assert (done.stdout, done.stderr) == ("['a', '--b'] __main__\n", "")
    assert done.returncode == 23


def test_a_script_with_a_fault_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\n\ndef f(:\n")
    done = run("run", str(script))
    assert done.stderr == f'lunatik-socket: cannot run "{script}": line 3: invalid syntax\n'
    assert done.returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="is about becoming another user: run as root")
@pytest.mark.parametrize("call", ["trace", "trace -- true", "serve echo --trace", "demo"])
def test_not_root_is_one_line_with_a_hint(call: str) -> None:
    done = run(*call.split(), user=65534, group=65534, extra_groups=[])
    assert done.stderr == (
        'lunatik-socket: cannot trace as user "65534": needs CAP_BPF and CAP_PERFMON; run as root\n'
    )
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize(
    "call", ["doctor --help", "--help", "--version", "doctor", "doctor --json"]
)
def test_a_closed_pipe_is_no_traceback(call: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, *call.split()],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    assert done.stderr == (
        "lunatik-socket: cannot write the output: No space left on device (ENOSPC)\n"
    )
    assert done.returncode == 3


def test_a_start_is_quick() -> None:
    """Processor time, which other work on the machine does not change: 0.05 s here, at most 0.3."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run("--version")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 0.3
