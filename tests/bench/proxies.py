# SPDX-License-Identifier: MIT
"""The proxies that are compared, each on loopback while its context lasts."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, create_server

__all__ = ["PEERS", "Way", "direct", "lua_proxy", "microsocks", "python_proxy"]

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_TIMEOUT_SECONDS = 30
_SSHD_NEEDS = Path("/run/sshd")  # its unprivileged part chroots there; systemd would create it

_DANTE = """
logoutput: stderr
internal: 127.0.0.1 port = {port}
# dante binds before it connects, so the port must be free at that address. The ports of 127.0.0.1
# are soon used up by the TIME_WAIT connections of the other proxies.
external: 127.0.0.2
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
"""

_SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
# The folder is in a temporary directory that everybody may write to.
StrictModes no
"""


@dataclass(frozen=True)
class Way:
    """How to connect: the options of load.c, and the process id of the proxy."""

    options: dict[str, int]
    pid: int = 0


@contextmanager
def direct() -> Iterator[Way]:
    yield Way({})


@contextmanager
def python_proxy(script: str) -> Iterator[Way]:
    """One of the proxies in this folder, started with port 0."""
    with subprocess.Popen(
        [sys.executable, _HERE / script, "0"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as process:
        assert process.stdout is not None
        try:
            yield Way({"proxy": int(process.stdout.readline())}, process.pid)
        finally:
            process.kill()


@contextmanager
def lua_proxy() -> Iterator[Way]:
    """The example proxy in Lua, `examples/lua/socks4.lua`."""
    lunatik_socket = Path(sys.executable).with_name("lunatik-socket")
    with subprocess.Popen(
        [lunatik_socket, "run", _ROOT / "examples/lua/socks4.lua", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            printed = process.stdout.readline()  # SOCKSv4 on ADDRESS:PORT
            yield Way({"proxy": int(printed.rpartition(":")[2])}, process.pid)
        finally:
            process.kill()


@contextmanager
def microsocks() -> Iterator[Way]:
    port = _free_port()
    with _serving(["microsocks", "-i", "127.0.0.1", "-p", str(port)], port) as pid:
        yield Way({"proxy": port, "version": 5}, pid)


@contextmanager
def dante() -> Iterator[Way]:
    """dante with its own configuration, independent of the machine's."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "danted.conf"
        settings.write_text(_DANTE.format(port=port))
        command = ["danted", "-f", str(settings), "-p", f"{folder}/pid"]
        with _serving(command, port) as pid:
            yield Way({"proxy": port}, pid)


@contextmanager
def ssh() -> Iterator[Way]:
    """An sshd with its own keys, and a client that serves SOCKS through it."""
    port, proxy = _free_port(), _free_port()
    user = pwd.getpwuid(os.getuid()).pw_name
    with tempfile.TemporaryDirectory() as name, _directory(_SSHD_NEEDS):
        folder = Path(name)
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
            subprocess.run(command, check=True, timeout=_TIMEOUT_SECONDS)
        settings, known = folder / "sshd_config", folder / "known_hosts"
        settings.write_text(_SSHD.format(port=port, folder=folder))
        known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
        server = [_path_of("sshd"), "-D", "-e", "-f", str(settings)]
        options = {
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known,
        }
        client = ["ssh", "-F", "none", "-N", "-D", f"127.0.0.1:{proxy}", "-p", str(port)]
        client += ["-i", str(folder / "user"), f"{user}@127.0.0.1"]
        client += [f"-o{key}={value}" for key, value in options.items()]
        with _serving(server, port), _serving(client, proxy) as pid:
            yield Way({"proxy": proxy}, pid)


PEERS: dict[str, tuple[str, Callable[[], AbstractContextManager[Way]]]] = {
    "microsocks": ("microsocks", microsocks),
    "dante": ("danted", dante),
    "ssh -D": ("sshd", ssh),
}
"""By name: the program that the proxy needs, and a context in which it runs."""


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as finder:
        return int(finder.getsockname()[1])


def _path_of(program: str) -> str:
    """The absolute path: sshd starts itself again for each connection and needs it."""
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f'cannot find "{program}": ./setup.sh bench installs it')
    return path


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[int]:
    """Start a server and yield its process id once it listens on the port."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        try:
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start to listen: {log.read()}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()  # not SIGKILL: some must end their children
            process.wait(_TIMEOUT_SECONDS)


def _listens(port: int) -> bool:
    with suppress(ConnectionRefusedError):
        create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    return False


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Create the directory while the context lasts; leave it if it existed before."""
    with ExitStack() as left:
        with suppress(FileExistsError):
            path.mkdir(0o755)
            left.callback(path.rmdir)
        yield
