# SPDX-License-Identifier: MIT
"""The checks of libbpf, bcc and its compiler. bcc is tried in a child, as the loader does."""

import ctypes
import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from tracer.errors import TracerError, UnsupportedError
from tracer.kernel.capabilities import require_rights
from tracer.kernel.libbpf import libbpf
from tracer.process.interpreter import loader_interpreter, safe_environment

__all__ = ["bcc_version", "compile_trial", "libbpf_version"]

_TIMEOUT_SECONDS = 180  # under emulation a compilation takes a minute
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tracer.doctor import bcc_trial; "
    "bcc_trial.main()"
)


def libbpf_version() -> str:
    """Load the library; raises UnsupportedError if it is missing."""
    library = libbpf()
    if not hasattr(library, "libbpf_version_string"):
        return "below 1.0"
    library.libbpf_version_string.restype = ctypes.c_char_p
    version: bytes = library.libbpf_version_string()
    return version.decode()


def bcc_version() -> str:
    """Import bcc as the loader does; raises UnsupportedError if it is missing."""
    answer = _trial()
    if "missing" in answer:
        raise TracerError.from_json(answer["missing"])
    return f"{answer['version']} in {answer['file']}"


def compile_trial() -> str:
    """Compile a trivial program with bcc."""
    answer = _trial()
    if "missing" in answer:
        raise UnsupportedError(
            "compile", cause="bcc is missing", hint="see the check of bcc for how to install it"
        )
    if "failure" in answer:
        require_rights()  # bcc creates the maps while it compiles
        raise UnsupportedError("compile", cause=answer["failure"], hint="please report this")
    return f"a program compiled in {answer['seconds']:.2f} s, without kernel headers"


@functools.cache
def _trial() -> dict[str, Any]:
    """The result of tracer/doctor/bcc_trial.py, run once."""
    interpreter = loader_interpreter()
    command = [interpreter, "-P", "-c", _START, str(Path(__file__).parents[2])]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env=safe_environment(),
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        missing = UnsupportedError(
            "run bcc with",
            interpreter,
            str(error),
            hint="install python3-bpfcc (Debian, Ubuntu), or reinstall it if it is there",
        )
        return {"missing": missing.to_json()}
    return answer
