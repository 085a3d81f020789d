# SPDX-License-Identifier: MIT
"""Messages on standard error, for a person or for the journal of systemd.

The journal adds the time and the program's name, and takes the priority from a prefix of each line
(`<4>`, sd-daemon(3)). So a message has one form in a terminal or a file and another in the journal.
"""

import os
import sys
from syslog import LOG_CRIT, LOG_DEBUG, LOG_ERR, LOG_INFO, LOG_WARNING
from typing import Any

from tracer.errors import PROGRAM

__all__ = ["in_journal", "log_to_stderr", "say"]

_PRIORITIES = {
    "DEBUG": LOG_DEBUG,
    "INFO": LOG_INFO,
    "WARNING": LOG_WARNING,
    "ERROR": LOG_ERR,
    "CRITICAL": LOG_CRIT,
}


def in_journal() -> bool:
    """Whether standard error goes to the journal: JOURNAL_STREAM has its device and inode."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or replaced by a test
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def say(text: str, priority: int = LOG_WARNING) -> None:
    """Print one message on standard error; the priority is one of syslog(3)."""
    line = _with_priority(text, priority) if in_journal() else f"{PROGRAM}: {text}"
    print(line, file=sys.stderr, flush=True)


def log_to_stderr(level: str, format: str) -> None:
    """Send the records of the logging module to standard error, in this format or the journal's."""
    import logging  # noqa: PLC0415 - most commands log nothing

    class ForJournal(logging.Formatter):
        """Every line gets the priority, those of a traceback too."""

        def format(self, record: Any) -> str:
            return _with_priority(super().format(record), _PRIORITIES[record.levelname])

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ForJournal() if in_journal() else logging.Formatter(format))
    logging.basicConfig(level=level, handlers=[handler])


def _with_priority(text: str, priority: int) -> str:
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())
