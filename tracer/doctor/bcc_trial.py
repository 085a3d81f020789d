# SPDX-License-Identifier: MIT
"""In a child of its own, as the loader is: import bcc, compile a program, say how it went."""

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
    """Print the answer, a line of JSON, after whatever bcc has to say."""
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
    except Exception as error:  # bcc raises nothing finer
        return answer | {"failure": str(error)}
    return answer | {"seconds": time.monotonic() - start}
