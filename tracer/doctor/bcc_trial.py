# SPDX-License-Identifier: MIT
"""Runs in a child process, as the loader does: import bcc, compile a program, report."""

import json
import time
from typing import Any

from tracer.errors import TracerError
from tracer.loading import child as loader

__all__ = ["main"]

_TEXT = """
#include <uapi/linux/bpf.h>
BPF_HASH(calls, u32, u64);
int trial(void *ctx)
{
	calls.increment(1);
	return 0;
}
"""


def main() -> None:
    """Print the result as the last line, in JSON; bcc may print lines before it."""
    print(json.dumps(_answer()))


def _answer() -> dict[str, Any]:
    try:
        bcc = loader.import_bcc()
    except TracerError as error:
        return {"missing": error.to_json()}
    answer = {"version": bcc.__version__, "file": bcc.__file__}
    start = time.monotonic()
    try:
        bcc.BPF(text=_TEXT)
    except Exception as error:  # bcc raises no narrower type
        return answer | {"failure": str(error)}
    return answer | {"seconds": time.monotonic() - start}
