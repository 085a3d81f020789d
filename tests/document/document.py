# SPDX-License-Identifier: MIT
"""The Lua examples of the document that defines this API, and the mistakes in them."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

__all__ = ["PATH", "SLIPS", "Example", "Slip", "examples"]

PATH = Path(
    os.environ.get("DOCUMENT")
    or Path(__file__).parents[2] / ".." / "shared" / "seed" / "lunatik-socket-api.md"
)


@dataclass(frozen=True)
class Example:
    """One block of Lua code under the heading of a call, such as `socket.new()`."""

    call: str
    number: int
    line: int
    code: str

    @property
    def name(self) -> str:
        return f"{self.call} {self.number}"


@dataclass(frozen=True)
class Slip:
    """A mistake in an example: the wrong text, the right text, and the error that it causes."""

    wrong: str
    right: str
    failure: str


SLIPS = {
    "socket:recv() 1": Slip("sock:recv({buf)", "sock:recv(buf)", "'}' expected near ')'"),
    "socket:getsockopt() 1": Slip(
        "sock:setsockopt('s', 'r')",
        "sock:getsockopt('s', 'r')",
        "val must be an integer, not nil",
    ),
    "lpoll:select() 1": Slip(
        "lpoll:select()", "poll:select()", "attempt to index a nil value (global 'lpoll')"
    ),
}
"""The mistakes of the document, by example."""

_BLOCK = re.compile(
    r"^## `([^`]+)`$|^([ ]*)```lua\n(.*?)^\2```$",
    re.MULTILINE | re.DOTALL,
)


def examples(text: str) -> Iterator[Example]:
    """Yield every example, in order."""
    call, number = "", 0
    for match in _BLOCK.finditer(text):
        if match[1] is not None:
            call, number = match[1], 0
        else:
            number += 1
            line = text.count("\n", 0, match.start(3)) + 1
            yield Example(call, number, line, dedent(match[3]))
