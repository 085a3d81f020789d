# SPDX-License-Identifier: MIT
"""The Debian mirror that this machine's apt uses, and private apt roots that use it too.

Nothing here changes the machine: a private root has its own sources, lists and cache, and copies
only the machine's settings (proxy, certificates, dates) and its archive keys.
"""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Mirror",
    "MirrorError",
    "PrivateApt",
    "cache_directory",
    "find_mirror",
    "machine_settings",
    "run",
]

KEYS = ("/usr/share/keyrings/debian-archive-*.*", "/etc/apt/trusted.gpg.d/debian-*.*")
INDEX_FORMAT = "$(RELEASE) $(REPO_URI)"
TIMEOUT_SECONDS = 900
SETTINGS_LEFT_OUT = ("Dir", "CommandLine", "APT::Sandbox")


class MirrorError(Exception):
    """Something could not be fetched from the mirror; the message says what and how to fix it."""


@dataclass(frozen=True)
class Mirror:
    """URIs of the releases and of their security updates; ``security`` is None if not set up."""

    archive: str
    security: str | None

    def source(self, suite: str) -> str | None:
        """One line of a sources.list for *suite*, or None when this mirror does not have it."""
        uri = self.security if suite.endswith("-security") else self.archive
        return f"deb {uri} {suite} main" if uri else None


def cache_directory() -> Path:
    """The directory that keeps kernels and userlands between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lunatik-socket"


def find_mirror() -> Mirror:
    """Read the mirror from the machine's apt configuration; works without package lists."""
    wanted = ("--no-release-info", "--format", INDEX_FORMAT, "Created-By: Packages")
    listing = run("apt-get", "indextargets", *wanted)
    return choose_mirror(line.split() for line in listing.splitlines())


def choose_mirror(targets: Iterable[list[str]]) -> Mirror:
    """Find the archive and the security archive in (release, URI) pairs; the first one counts."""
    archive = security = None
    for release, uri in targets:
        if release.endswith("-security"):
            security = security or uri
        elif "debian" in uri:  # the rest are third-party repositories
            archive = archive or uri
    if archive is None:
        raise MirrorError(
            'cannot find a Debian mirror in "apt-get indextargets": this ring fetches kernels and '
            "userlands from the mirror that apt uses; run it on Debian"
        )
    return Mirror(archive, security)


def machine_settings() -> list[str]:
    """Return the machine's apt settings that a private root needs too: proxy, certificates, dates.

    Hooks are left out, because images often have one that empties the machine's cache.
    """
    return [
        line
        for line in run("apt-config", "dump").splitlines()
        if "-Invoke" not in line and not line.startswith(SETTINGS_LEFT_OUT)
    ]


class PrivateApt:
    """An apt of our own below *root*, with the *suites* of the machine's mirror as its sources."""

    def __init__(self, root: Path, suites: Iterable[str]) -> None:
        self.root = root
        mirror = find_mirror()
        sources = [source for suite in suites if (source := mirror.source(suite))]
        for name in ("state/lists/partial", "cache/archives/partial", "keys", "none"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for pattern in KEYS:
            for key in Path("/").glob(pattern.lstrip("/")):
                (root / "keys" / key.name).unlink(missing_ok=True)
                (root / "keys" / key.name).symlink_to(key)
        (root / "sources.list").write_text("\n".join(sources) + "\n")
        (root / "status").touch()
        (root / "apt.conf").write_text(self._settings())

    def update(self) -> None:
        """Fetch the package lists; a list that apt cannot verify is an error."""
        self.run("apt-get", "--quiet=2", "--error-on=any", "update")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run an apt command in this root; returns its standard output."""
        return run(*command, cwd=cwd, APT_CONFIG=str(self.root / "apt.conf"))

    def _settings(self) -> str:
        directories = {
            "Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache",
            "Dir::Etc::sourcelist": "sources.list", "Dir::Etc::sourceparts": "none",
            "Dir::Etc::main": "none/main", "Dir::Etc::parts": "none",
            "Dir::Etc::trusted": "none/trusted", "Dir::Etc::trustedparts": "keys",
            "Dir::Etc::preferences": "none/preferences", "Dir::Etc::preferencesparts": "none",
        }  # fmt: skip
        ours = {key: str(self.root / name) for key, name in directories.items()}
        # The cache is in a home directory, which apt's unprivileged user cannot read.
        ours |= {"APT::Sandbox::User": "root", "Acquire::Languages": "none"}
        ours |= {"Acquire::Retries": "3", "Acquire::http::Timeout": "30"}
        return (
            "\n".join([*machine_settings(), *(f'{key} "{value}";' for key, value in ours.items())])
            + "\n"
        )


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that uses the mirror; returns its output, or raises MirrorError."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=os.environ | {"LC_ALL": "C.UTF-8"} | environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MirrorError(f'cannot find "{command[0]}": run this ring on Debian') from error
    except subprocess.TimeoutExpired as error:
        raise MirrorError(
            f'cannot run "{command[0]}": not finished within {TIMEOUT_SECONDS} s; check the mirror'
        ) from error
    except subprocess.CalledProcessError as error:
        last_words = (error.stderr.strip() or error.stdout.strip())[-2000:]
        raise MirrorError(f'cannot run "{" ".join(command)}": {last_words}') from error
    return done.stdout
