# SPDX-License-Identifier: MIT
"""Skips or fails a test that needs a mechanism which does not work here."""

import os

import pytest

from tracer.errors import TracerError
from tracer.kernel.mechanisms import prove

__all__ = ["require"]


def require(mechanism: str) -> None:
    """Skip the test if the mechanism does not work, saying why; in the VM ring, fail."""
    try:
        prove(mechanism)
    except TracerError as error:
        if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/"):
            raise  # Debian's kernels have all mechanisms
        pytest.skip(f"{error}; make test-kernels runs this test on kernels that have it")
