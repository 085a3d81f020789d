# SPDX-License-Identifier: MIT
"""The Debian package on Debian 12 and 13: installed, used, upgraded, removed and purged.

The tests of one release share a system and run in this order; the last ones remove the package.
"""

import json
import subprocess
from pathlib import Path

import pytest

from docs.generate.man_pages import man_pages
from tests.packages.conftest import NEWER
from tests.packages.roots import Root

CONFIG = "/etc/lunatik-socket/config.toml"
WAIT_SECONDS = 90


def test_lintian_finds_nothing(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--pedantic", "--info", "--allow-root", "--fail-on",
         "error,warning,info,pedantic", package],
        capture_output=True, text=True, check=False, timeout=WAIT_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_package_is_the_same_when_it_is_built_again(package: Path) -> None:
    from tests.packages.conftest import built  # noqa: PLC0415

    before = package.read_bytes()
    assert built().read_bytes() == before


def test_the_command_is_on_the_path(system: Root) -> None:
    assert system.run("lunatik-socket --version").stdout == "lunatik-socket 0.1.0\n"


def test_the_operations_of_this_machine_are_counted(system: Root) -> None:
    done = system.run("lunatik-socket doctor --selftest --json")
    assert json.loads(done.stdout)["ok"] is True


def test_the_socket_api_can_be_imported(system: Root) -> None:
    assert system.run("cd /; python3 -c 'import lunatik_socket'").stdout == ""


def test_the_start_imports_nothing_from_the_users_directory(system: Root) -> None:
    system.run("mkdir -p /tmp/here && echo 'raise SystemExit(99)' >/tmp/here/json.py")
    system.run("cd /tmp/here && PYTHONPATH=/tmp/here lunatik-socket trace --help")


def test_the_configuration_file_is_read(system: Root) -> None:
    assert system.run(f"lunatik-socket trace --config {CONFIG} --help").returncode == 0
    wrong = system.run(
        "echo 'pids = 1' >/tmp/wrong.toml; lunatik-socket trace --config /tmp/wrong.toml",
        check=False,
    )
    assert wrong.returncode == 2
    assert 'unknown key "pids"; did you mean "pid"?' in wrong.stdout


def test_metrics_are_served(system: Root) -> None:
    port = "127.0.0.1:23435"
    with system.started("lunatik-socket", "trace", "--quiet", "--metrics", port):
        body = system.run(
            f"curl -sS --retry {WAIT_SECONDS} --retry-delay 1 --retry-connrefused http://{port}/metrics"
        ).stdout
    assert "lunatik_socket_operation_duration_seconds_count" in body


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_options(system: Root, shell: str) -> None:
    scripts = {
        "bash": ". /usr/share/bash-completion/completions/lunatik-socket; "
        "COMP_WORDS=(lunatik-socket trace --me) COMP_CWORD=2; "
        "_lunatik_socket_completion lunatik-socket; echo ${COMPREPLY[@]}",
        # zsh completes only in a terminal; what its function asks for is tested, and its syntax.
        "zsh": "zsh -n /usr/share/zsh/vendor-completions/_lunatik-socket && "
        'env COMP_WORDS="lunatik-socket trace --me" COMP_CWORD=2 '
        "_LUNATIK_SOCKET_COMPLETE=zsh_complete lunatik-socket",
        "fish": "complete -C 'lunatik-socket trace --me'",
    }
    done = system.run(
        f"{shell} -c '{scripts[shell].replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'"
    )
    assert "--metrics" in done.stdout
    assert "--mechanism" in done.stdout


def test_every_command_has_a_man_page(system: Root) -> None:
    pages = system.run("dpkg -L lunatik-socket | grep -c '/man1/.*[.]1[.]gz$'").stdout
    assert int(pages) == len(man_pages())


def test_the_service_is_neither_enabled_nor_running(system: Root) -> None:
    done = system.run("systemctl is-enabled lunatik-socket.service", check=False)
    assert done.stdout.strip() == "disabled"


def test_an_upgrade_keeps_the_changed_configuration(system: Root, newer_package: Path) -> None:
    system.run(f"echo 'by = \"port\"' >>{CONFIG}")
    system.put(newer_package, "/tmp/newer.deb")
    system.run("apt-get install -qy /tmp/newer.deb")
    assert system.run("dpkg-query -W -f '${Version}' lunatik-socket").stdout == NEWER
    assert 'by = "port"' in system.run(f"tail -n 1 {CONFIG}").stdout
    assert system.run("lunatik-socket --version").returncode == 0


def test_a_removal_keeps_only_the_configuration(system: Root) -> None:
    system.run("apt-get remove -qy lunatik-socket")
    # Until the purge, systemd's helper remembers what was enabled.
    left = {path for path in _left(system) if "/deb-systemd-helper-enabled/" not in path}
    assert left == {"/etc/lunatik-socket"}
    system.run(f"test -e {CONFIG}")


def test_a_purge_leaves_nothing(system: Root) -> None:
    system.run("apt-get purge -qy lunatik-socket")
    assert _left(system) == set()
    assert "lunatik" not in system.run("cat /etc/passwd /etc/group").stdout


def _left(system: Root) -> set[str]:
    """Every path with the package's name, outside dpkg's records and our own files."""
    system.run("rm -f /tmp/*.deb")
    found = system.run(
        "find / -xdev -iname '*lunatik*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*'"
    )
    return set(found.stdout.split())
