# SPDX-License-Identifier: MIT
"""pip's settings on this machine, for the pip of another userland.

The package index may be the public one, a proxy with its own certificate, or a local
directory. The settings are read from pip itself, so it does not matter which file or variable they
come from.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["configuration", "local_paths", "read"]

LINE = re.compile(r"(?:global|install|:env:)\.([\w-]+)=(.*)")


def read() -> dict[str, str]:
    """Return the settings that pip uses."""
    listing = subprocess.check_output(
        [sys.executable, "-m", "pip", "config", "list"], text=True, timeout=60
    )
    return parse(listing.splitlines())


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Read the lines of ``pip config list``; an environment variable overrides a file."""
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    found.sort(key=lambda match: match.string.startswith(":env:"))
    return {match[1]: str(ast.literal_eval(match[2])) for match in found}


def configuration(settings: dict[str, str]) -> str:
    """Return a pip.conf with these settings."""
    lines = (f"{key} = {' '.join(value.split())}" for key, value in sorted(settings.items()))
    return "\n".join(["[global]", *lines]) + "\n"


def local_paths(settings: dict[str, str]) -> list[Path]:
    """Return the files and directories in the settings, to be mounted in the userland too.

    A local index links to files next to it, so its parent directory is returned.
    """
    found = set()
    for key, value in settings.items():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                found.add(path.parent if key.endswith("index-url") else path)
    return sorted(found)
