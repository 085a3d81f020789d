"""How an operating system's error is told, in one line."""

import errno

__all__ = ["PROGRAM", "cause_of", "one_line"]

PROGRAM = "lunatik-socket"


def cause_of(error: OSError) -> str:
    """`No such file or directory (ENOENT)`."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"


def one_line(error: OSError) -> str:
    """What could not be done, and why. Ours say so themselves; what others raise names a file."""
    text = error.strerror or str(error)
    if text.startswith("cannot ") or error.errno is None:
        return text
    what = f'use "{error.filename}"' if error.filename else "write the output"
    return f"cannot {what}: {cause_of(error)}"
