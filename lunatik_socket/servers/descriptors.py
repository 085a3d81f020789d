# SPDX-License-Identifier: MIT
"""Room for the descriptors that a server's clients need, made before the first one comes."""

import errno
import resource

__all__ = ["allow_descriptors"]

# Listener, poll, waker, standard streams, and what else the program has open.
_SPARE = 64


def allow_descriptors(clients: int, a_client: int) -> None:
    """Raise the soft limit of open files for `clients`; OSError if the hard one is lower."""
    needed = clients * a_client + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(
            errno.EMFILE,
            f'cannot serve "{clients} clients": they need {needed} open files, the hard limit '
            f"is {hard} (EMFILE); allow fewer clients, or raise the limit (ulimit -Hn)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
