# SPDX-License-Identifier: MIT
"""The command line on this kernel: what it traces, how it ends, which errors it reports."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import (
    HIDE_TRACEFS,
    PROGRAM,
    ROOT,
    TIMEOUT_SECONDS,
    counts,
    free_port,
    read_until,
    run,
    started,
)
from tests.pure.tracer.exporter.http.certificates import HASHES, PASSWORD, USER, Certificates

# 23 datagrams to itself, 23 refused connections; then what the arguments say.
WORKLOAD = """
import socket, sys, signal
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("127.0.0.1", 0))
for _ in range(23):
    one.sendto(b"abc", one.getsockname())
    one.recv(10)
for _ in range(23):
    other = socket.socket()
    assert other.connect_ex(("127.0.0.1", 1)) == 111
    other.close()
one.close()
"""

# A session with few probes, because the kernel takes time to detach each.
QUICK = ("--no-metrics", "--operation", "bind")


def test_a_command_is_counted_exactly_from_its_first_call() -> None:
    done = run("trace", "--no-metrics", "--json", "--", sys.executable, "-c", WORKLOAD)
    assert done.returncode == 0
    counted = counts(json.loads(done.stdout))
    assert counted["send", "udp"] == (23, 69, {})
    assert counted["recv", "udp"] == (23, 69, {})
    assert counted["getsockname", "udp"] == (23, 0, {})
    assert counted["new", "tcp"] == (23, 0, {})
    assert counted["connect", "tcp"] == (23, 0, {"ECONNREFUSED": 23})
    assert counted["close", "tcp"] == (23, 0, {})
    assert ("new", "unix") not in counted
    lost = json.loads(done.stdout)["tracer"]["lost"]
    assert not any(lost.values())


def test_its_children_are_followed() -> None:
    script = f"{sys.executable} -c '{WORKLOAD}' & {sys.executable} -c '{WORKLOAD}'; wait"
    done = run("trace", "--no-metrics", "--json", "--", "sh", "-c", script)
    assert counts(json.loads(done.stdout))["connect", "tcp"] == (46, 0, {"ECONNREFUSED": 46})


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 5", 5), ("kill -TERM $$", 143), ("kill -9 $$", 137)],
)
def test_the_commands_status_is_passed_on(script: str, status: int) -> None:
    assert run("trace", *QUICK, "-q", "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(("command", "status"), [("/nosuch", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_run(command: str, status: int) -> None:
    done = run("trace", *QUICK, "-q", "--", command)
    assert re.fullmatch(f'lunatik-socket: cannot run "{command}": .*; .*\n', done.stderr)
    assert done.returncode == status


def test_with_json_standard_output_has_only_the_numbers() -> None:
    done = run("trace", *QUICK, "--json", "--", "echo", "said by the command")
    assert json.loads(done.stdout)["tracer"]["mechanisms"] == ["tracepoint"]
    assert "said by the command\n" in done.stderr


def test_without_json_standard_output_is_the_commands() -> None:
    done = run("trace", "--no-metrics", "--", sys.executable, "-c", WORKLOAD + "print('done')")
    assert done.stdout == "done\n"
    assert re.search(r"^connect +tcp +user +23 .* 23 ECONNREFUSED ", done.stderr, re.MULTILINE)


def test_plain_lines_have_the_last_partial_interval() -> None:
    options = ("--operation", "bind", "--interval", "1h")
    done = run("trace", *options, "--", sys.executable, "-c", WORKLOAD)
    lines = re.findall(r"^time=\S+ operation=bind .* calls=(\d+) ", done.stderr, re.MULTILINE)
    assert lines == ["1"]


def test_output_is_a_file_of_json(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    file.write_text("what was there before, which is longer than nothing")
    done = run("trace", *QUICK, "-q", "--output", str(file), "--", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(file.read_text())["operations"] == []


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/nosuch/file", r"No such file or directory \(ENOENT\)"),
        ("/", r"Is a directory \(EISDIR\)"),
        ("/dev/full", r"No space left on device \(ENOSPC\)"),
    ],
)
def test_unwritable_output(path: str, cause: str) -> None:
    done = run("trace", *QUICK, "-q", "--output", path, "--", "true")
    assert re.fullmatch(
        f'lunatik-socket: cannot write "{path}": {cause}; choose another --output\n', done.stderr
    )
    assert done.returncode == 3


def test_a_closed_pipe_on_standard_output_ends_it() -> None:
    with started("trace", "--all", "--no-metrics", "--interval", "0.05") as process:
        read_until(process, "# tracing every process")
        assert process.stdout is not None
        process.stdout.close()
        with socket.socket() as one:
            while process.poll() is None:
                one.connect_ex(("127.0.0.1", 1))
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.returncode == 141


def test_metrics_are_served() -> None:
    port = free_port()
    script = "read line"
    read, write = os.pipe()
    with subprocess.Popen(
        [*PROGRAM, "trace", "--metrics", f"127.0.0.1:{port}", "--", "sh", "-c", script],
        stdin=read,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        os.close(read)
        assert process.stderr is not None
        assert f"metrics on http://127.0.0.1:{port}/metrics" in process.stderr.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
            assert b"lunatik_socket_tracer_info" in page.read()
        os.close(write)
        try:
            process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()


def test_metrics_over_tls_with_a_password_and_a_warning_without(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    tls = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
    config = made.config(f"{tls}basic_auth_users: {{{USER}: {HASHES[0]}}}")
    warning = "warning: anyone who can connect to 0.0.0.0"
    with started("trace", "--metrics", "0.0.0.0:0", "--web.config.file", config) as process:
        assert process.stdout is not None
        first = read_until(process, "metrics on https://0.0.0.0:")
        port = first.rpartition(":")[2].split("/")[0]
        curl = ["curl", "-sS", "--cacert", made.ca, f"https://localhost:{port}/metrics"]
        answer = subprocess.check_output([*curl, "--user", f"{USER}:{PASSWORD}"], timeout=60)
        assert b"lunatik_socket_tracer_info" in answer
        assert b"log in with" in subprocess.check_output(curl, timeout=60)
        process.send_signal(signal.SIGTERM)
        assert warning not in process.communicate(timeout=TIMEOUT_SECONDS)[1]
    with started("trace", "--metrics", "0.0.0.0:0") as process:
        read_until(process, "metrics on http://0.0.0.0:")
        process.send_signal(signal.SIGTERM)
        assert warning in process.communicate(timeout=TIMEOUT_SECONDS)[1]


def test_metrics_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("trace", "--metrics", address, "--", "true")
    assert done.stderr == (
        f'lunatik-socket: cannot serve metrics on "{address}": Address already in use '
        "(EADDRINUSE); choose another with --metrics\n"
    )
    assert (done.returncode, done.stdout) == (3, "")


@pytest.fixture
def taken() -> Iterator[None]:
    """The default metrics port is in use."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # then another process has it
            stack.enter_context(socket.create_server(("127.0.0.1", 10435)))
        yield


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize(
    "arguments", [("trace",), ("serve", "socks4", "--trace", "--listen", "127.0.0.1:0"), ("demo",)]
)
def test_a_second_tracer_serves_on_a_free_port(arguments: tuple[str, ...]) -> None:
    with started(*arguments, "--operation", "bind", "--duration", "20") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(
            r"lunatik-socket: 127\.0\.0\.1:10435 is in use; metrics are on (127\.0\.0\.1:\d+)\n",
            line,
        )
        assert found, line
        assert f"metrics on http://{found[1]}/metrics" in read_until(process, "metrics on")
        with urllib.request.urlopen(f"http://{found[1]}/healthz", timeout=20) as page:
            assert page.read() == b"ok\n"


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize("arguments", [("trace",), ("demo",), ("serve", "echo", "--trace")])
def test_a_given_default_port_in_use_is_an_error(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--metrics", "127.0.0.1:10435")
    assert 'cannot serve metrics on "127.0.0.1:10435"' in done.stderr
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.usefixtures("taken")
def test_a_traced_command_opens_no_port() -> None:
    # While the tracer waits for it, the command looks for the sockets of both its processes.
    script = """
for pid in $PPID $(pgrep -P $PPID); do ls -l /proc/$pid/fd; done
cat /proc/$PPID/net/tcp /proc/$PPID/net/tcp6 /proc/$PPID/net/udp /proc/$PPID/net/udp6
"""
    done = run("trace", "--operation", "bind", "-q", "--", "sh", "-c", script)
    assert done.returncode == 0
    sockets = re.findall(r"socket:\[(\d+)\]", done.stdout)
    assert len(sockets) >= 2  # the two ends of the socket pair
    network = {line.split()[9] for line in done.stdout.splitlines() if re.match(r" *\d+: ", line)}
    assert not network & set(sockets)


def test_unknown_pid() -> None:
    done = run("trace", "--no-metrics", "--pid", "4194303")
    assert done.stderr == (
        'lunatik-socket: cannot trace the process "4194303": no such process; '
        "ps -e lists all processes\n"
    )
    assert done.returncode == 2


def test_unknown_cgroup() -> None:
    done = run("trace", "--no-metrics", "--cgroup", "/nosuch")
    assert done.stderr.startswith('lunatik-socket: cannot find the cgroup "/nosuch": ')
    assert (done.stderr.count("\n"), done.returncode) == (1, 2)


def test_a_mechanism_that_does_not_work_is_one_line() -> None:
    for mechanism in ("kprobe", "fentry"):
        done = run("trace", "--no-metrics", "--mechanism", mechanism, "--", "true")
        assert re.fullmatch(f"lunatik-socket: cannot .*{mechanism}.*; .*\n", done.stderr)
        assert done.returncode == 3


def test_a_running_process_until_it_ends() -> None:
    """The tracer ends when the traced processes have ended."""
    code = "import socket\ninput()\n[socket.socket() for _ in range(23)]\n"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as target,
        started(
            *("trace", "--no-metrics", "--json", "--interval", "0.1", "--pid", str(target.pid))
        ) as process,
    ):
        assert process.stderr is not None
        assert f"tracing process {target.pid}" in process.stderr.readline()
        target.communicate(b"go\n")
        stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert counts(json.loads(stdout))["new", "tcp"] == (23, 0, {})
    assert process.returncode == 0


def test_by_comm_over_the_whole_machine() -> None:
    code = f"open('/proc/self/comm', 'w').write('lunatik_test_23')\n{WORKLOAD}"
    arguments = ("trace", "--no-metrics", "--json", "--comm", "lunatik_test_23", "--by", "comm")
    with started(*arguments, "--duration", "60") as process:
        assert process.stderr is not None
        assert "no running thread has a name that --comm matches" in process.stderr.readline()
        assert "threads named lunatik_test_23" in process.stderr.readline()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT_SECONDS)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    document = json.loads(stdout)
    assert {o["comm"] for o in document["operations"]} == {"lunatik_test_23"}
    assert counts(document)["connect", "tcp"] == (23, 0, {"ECONNREFUSED": 23})
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_the_summary_and_ends(number: int) -> None:
    with started("trace", "--all", *QUICK) as process:
        read_until(process, "# tracing every process")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert re.search(r"^every process: ", stdout, re.MULTILINE)
    assert (process.returncode, stderr) == (0, "")


def test_duration_ends_it() -> None:
    before = time.monotonic()
    done = run("trace", "--all", *QUICK, "-q", "--duration", "0.5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - before >= 0.5


def test_duration_ends_the_command_too() -> None:
    done = run("trace", *QUICK, "-q", "--duration", "0.3", "--", "sleep", "1000")
    assert done.returncode == 0


def test_a_signal_is_passed_to_the_command() -> None:
    script = "trap 'exit 23' TERM; echo ready; while :; do read -t 1 line; done"
    with started("trace", *QUICK, "-q", "--", "bash", "-c", script) as process:
        read_until(process, "ready")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 23


def serve(port: int, *more: str) -> tuple[str, ...]:
    return ("serve", "socks4", "--trace", "--listen", f"127.0.0.1:{port}", *more)


def test_serve_counts_what_went_through_the_proxy() -> None:
    body = os.urandom(100_000)
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(TIMEOUT_SECONDS)
        answering = threading.Thread(target=_answer_once, args=(target, body), daemon=True)
        answering.start()
        port = free_port()
        with started(*serve(port, "--json", "--no-metrics")) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "listening on" in line:
                    break
            url = f"http://127.0.0.1:{target.getsockname()[1]}/"
            command = ["curl", "-sS", "--max-time", "20", "--socks4", f"127.0.0.1:{port}", url]
            got = subprocess.run(command, capture_output=True, timeout=30, check=True)
            process.send_signal(signal.SIGTERM)
            stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        answering.join(TIMEOUT_SECONDS)
    assert got.stdout == body
    assert process.returncode == 0
    counted = counts(json.loads(stdout))
    assert counted["accept", "tcp"][0] >= 1
    assert counted["connect", "tcp"][0] == 1
    # What curl and the target sent, the request for the proxy and its answer of 8 bytes.
    assert counted["recv", "tcp"][1] > len(body)
    assert counted["send", "tcp"][1] - 8 == counted["recv", "tcp"][1] - 9


def _answer_once(target: socket.socket, body: bytes) -> None:
    peer, _ = target.accept()
    with peer:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)


def test_serve_does_not_outlive_the_tracer() -> None:
    port = free_port()
    with started(*serve(port, *QUICK)) as process:
        line = read_until(process, "# tracing SOCKSv4 proxy")
        pid = int(line.split("(pid ")[1].split(")")[0])
        watch = os.pidfd_open(pid)
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        assert select.select([watch], [], [], TIMEOUT_SECONDS)[0]
        os.close(watch)


def test_serve_that_cannot_listen_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*serve(port, *QUICK))
    assert done.stderr.startswith(f'lunatik-socket: cannot bind to "127.0.0.1:{port}": ')
    assert all(line.startswith("#") for line in done.stdout.splitlines())
    assert (done.stderr.count("\n"), done.returncode) == (1, 3)


def test_run_traces_a_script_alone(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{WORKLOAD}\nassert sys.argv[1:] == ['one'], sys.argv\nsys.exit(7)\n")
    done = run("run", "--trace", "--no-metrics", "--json", str(script), "one")
    assert done.returncode == 7
    assert counts(json.loads(done.stdout))["connect", "tcp"] == (23, 0, {"ECONNREFUSED": 23})


def in_terminal(*arguments: str, keys: bytes = b"", after: bytes = b"") -> tuple[int, str]:
    """Run in a terminal of 80 by 24; type `keys` once `after` was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["TERM"] = "xterm-256color"
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            os.environ.pop(name, None)
        os.execv(PROGRAM[0], [*PROGRAM, *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    output = b""
    while select.select([terminal], [], [], TIMEOUT_SECONDS)[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # EIO: the last one closed it
            break
        output += chunk
        if keys and after in output:
            os.write(terminal, keys)
            keys = b""
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), output.decode()


def test_a_live_table_in_a_terminal() -> None:
    status, output = in_terminal("demo", "--no-metrics", "--duration", "3")
    assert status == 0
    assert "\x1b[?25l" in output  # the cursor is hidden while the table is redrawn
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "rate/s" in output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "")
    assert max(map(len, plain.splitlines())) <= 80
    summary = plain[plain.rindex("the demo's servers and clients (pid") :]
    for operation in ("new", "bind", "accept", "connect", "sendmsg", "recvmsg", "send", "recv"):
        assert re.search(rf"^{operation} ", summary, re.MULTILINE), operation
    assert re.search(r"^bind +tcp .* \d+ EADDRINUSE", summary, re.MULTILINE)
    assert re.search(r"^getpeername +tcp .* \d+ ENOTCONN", summary, re.MULTILINE)


def test_ctrl_c_lets_the_server_end_and_prints_the_summary() -> None:
    status, output = in_terminal(*serve(free_port(), *QUICK), keys=b"\x03", after=b"listening on")
    assert status == 0
    assert "stopping, with 0 clients connected" in output
    assert re.search(r"SOCKSv4 proxy on .*: \d+ calls", re.sub(r"\x1b\[[0-9;?]*m", "", output))
    assert "Traceback" not in output


# Waits for Ctrl-C; on request in a separate process group, where the terminal does not send it.
WAIT_FOR_CTRL_C = """
import os, signal, sys
if sys.argv[1] == "apart":
    os.setpgid(0, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print("ready", flush=True)
sys.exit(23 if signal.sigtimedwait({signal.SIGINT}, float(sys.argv[2])) else 24)
"""


@pytest.mark.parametrize(
    ("where", "seconds", "expected"), [("together", "60", 23), ("apart", "0.5", 24)]
)
def test_ctrl_c_reaches_the_command_from_the_terminal_and_not_from_us(
    where: str, seconds: str, expected: int
) -> None:
    status, output = in_terminal(
        *("trace", *QUICK, "--", sys.executable, "-c", WAIT_FOR_CTRL_C, where, seconds),
        keys=b"\x03",
        after=b"ready\r\n",
    )
    assert status == expected, output


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    done = run("trace", "--no-metrics", "--", sys.executable, "-c", WORKLOAD)
    assert "\x1b" not in done.stderr


def test_a_terminal_without_unicode_gets_replacement_characters() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = ("trace", "--no-metrics", "--operation", "connect", "--")
    done = run(*command, sys.executable, "-c", WORKLOAD, env=environment)
    assert "Traceback" not in done.stderr
    assert re.search(
        r"^connect +tcp +user +23 .* \?s .* 23 ECONNREFUSED ", done.stderr, re.MULTILINE
    )
    assert done.returncode == 0


def test_it_traces_without_tracefs() -> None:
    traced = f"{sys.executable} -c 'import socket; socket.socket().bind((\"127.0.0.1\", 0))'"
    command = " ".join([*PROGRAM, "trace", "--no-metrics", "--json", "--", traced])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", HIDE_TRACEFS + command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0
    counted = json.loads(done.stdout)["operations"]
    assert [s["count"] for s in counted if s["operation"] == "bind"] == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "raise ImportError('No module named bcc')",
            'cannot import "bcc": No module named bcc; inst',
        ),
        (
            "__version__ = '0.1.10'",
            'cannot use the bcc in ".*": it is another project of that name',
        ),
    ],
)
def test_no_bcc_or_another_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bcc.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run("trace", "--no-metrics", "--", "true", env=environment)
    assert re.match(f"lunatik-socket: {message}", done.stderr)
    assert "python3-bpfcc" in done.stderr
    assert (done.stderr.count("\n"), done.returncode) == (1, 3)
