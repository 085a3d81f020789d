# SPDX-License-Identifier: MIT
"""Messages have a priority in the journal, and the program's name elsewhere."""

import subprocess
import sys
from pathlib import Path

TIMEOUT_SECONDS = 20
ROOT = Path(__file__).parents[4]

SAY = """
import logging, os, sys
from syslog import LOG_ERR
from tracer.process.journal import log_to_stderr, say
if sys.argv[1] == "journal":
    found = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
say("a warning")
say("an error", LOG_ERR)
log_to_stderr("INFO", "%(levelname)s %(message)s")
logging.debug("hidden")
logging.info("two\\nlines")
"""


def said(where: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", SAY, where],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
        cwd=ROOT,
    ).stderr


def test_in_the_journal_each_line_has_a_priority() -> None:
    assert said("journal") == "<4>a warning\n<3>an error\n<6>two\n<6>lines\n"


def test_elsewhere_a_message_names_the_program() -> None:
    assert said("pipe") == (
        "lunatik-socket: a warning\nlunatik-socket: an error\nINFO two\nlines\n"
    )
