# SPDX-License-Identifier: MIT
"""Run the tests in other userlands: ``python -m tests.userlands.ring trixie sid -- -k exact``."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.userlands import pip_settings, rootfs
from tests.vm.command import PROJECT, Place, PlaceError, main, pytest_command
from tests.vm.process import attend

__all__: list[str] = []

ENTER = Path(__file__).with_name("enter.sh")
TESTS = ("tests/pure", "tests/kernel")
TEST_TIMEOUT_SECONDS = 120
PROXIES = ("http_proxy", "https_proxy", "no_proxy")

COMMAND = """\
unset $(env | cut -d= -f1 | grep -E '^(PIP|PYTHON|LC|XDG|VIRTUAL|SSL|REQUESTS)_?')
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb PYTHONUNBUFFERED=1
export LUNATIK_SOCKET_RING={ring}
cd {project} || exit
{{ pwd; cat pyproject.toml; }} >/run/pyproject
cmp -s /run/pyproject .venv/ready || {{
	echo "making the virtual environment"
	/usr/bin/python3 -m venv --clear --system-site-packages .venv &&
	export PIP_CONFIG_FILE=/run/results/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 &&
	.venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1,<27' &&
	.venv/bin/python -m pip install --quiet --editable . --group dev &&
	cp /run/pyproject .venv/ready || exit
}}
{pytest}
status=$?
echo $status >/run/results/status
exit $status
"""


def prepare(name: str, refresh: bool) -> Place:
    """Make a userland if it is not in the cache, and return it as a place to run in."""
    if os.geteuid() != 0:
        raise PlaceError(f'cannot enter the userland "{name}": not root; run as root')
    root = rootfs.fetch(name, refresh=refresh)
    return Place(rootfs.versions(root), Userland(name, root).run)


@dataclass(frozen=True)
class Userland:
    """The release *name*, whose files are below *root*."""

    name: str
    root: Path

    def run(
        self,
        arguments: Sequence[str],
        results: Path,
        timeout: float,
        on_line: Callable[[str], None],
    ) -> int:
        """Run pytest inside; returns its exit status, or raises PlaceError if it did not finish."""
        venv, mount = (self.root.with_name(f"{self.name}.{use}") for use in ("venv", "mount"))
        for directory in (venv, mount):
            directory.mkdir(exist_ok=True)
        (results / "command").write_text(command(self.name, arguments))
        settings = pip_settings.read()
        shown = pip_settings.local_paths(settings)
        pip_configuration = results / "pip.conf"
        pip_configuration.write_text(pip_settings.configuration(settings))
        enter = ["unshare", "--mount", "--propagation", "private", "sh", ENTER, self.root, PROJECT]
        try:
            ended = attend([*map(str, (*enter, venv, results, *shown))], timeout, on_line)
        finally:
            pip_configuration.unlink()  # it may hold a password
        if ended is None:
            raise PlaceError(f"not finished within {timeout:.0f} s")
        return _status(results)


def command(name: str, arguments: Sequence[str]) -> str:
    """Return the commands to run inside: make a virtual environment if needed, then run pytest."""
    pytest = pytest_command(
        ".venv/bin/python", arguments, "/run/results/junit.xml",
        timeout=TEST_TIMEOUT_SECONDS, default=TESTS,
    )  # fmt: skip
    ring = shlex.quote(f"userland/{name}")
    return COMMAND.format(ring=ring, project=shlex.quote(str(PROJECT)), pytest=f"({pytest})")


def _status(results: Path) -> int:
    status = results / "status"
    if not status.exists():
        raise PlaceError("cannot start the tests: see the output above")
    return int(status.read_text())


if __name__ == "__main__":
    raise SystemExit(main("userland", __doc__, rootfs.SUITES, prepare))
