"""A network file system that says it cannot be reached: nothing is served until it can be again."""

from __future__ import annotations

import errno
import logging
import os
import time

from spool import layout, mounts

log = logging.getLogger("spoold")
AWAY = frozenset(
    {errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ESHUTDOWN}
)
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
AGAIN = 1.0  # seconds between two tries
REMEDY = "if it does not come back by itself, unmount it (umount -l) and mount it again"


def is_away(root: str, problem: BaseException) -> bool:
    """Whether this came of a network file system that cannot be reached, not of a disk that is broken."""
    if not isinstance(problem, OSError) or problem.errno not in AWAY:
        return False
    return mounts.is_network(root)


def is_elsewhere(root: str, fd: int) -> bool:
    """Whether the path of a spool leads to another directory than the one that is open, or to none."""
    try:
        return not os.path.samestat(os.stat(root), os.fstat(fd))
    except OSError as problem:
        return problem.errno in GONE


def wait(root: str) -> None:
    """Until a spool on a network file system answers, with whatever else."""
    said = False
    while (problem := _ask(root)) is not None:
        if not said:
            log.error("%s does not answer (%s): waiting for it; %s", root, problem.strerror, REMEDY)
        said = True
        time.sleep(AGAIN)
    if said:
        log.warning("%s answers again", root)


def _ask(root: str) -> OSError | None:
    """What is wrong with reaching it."""
    try:
        os.close(os.open(os.path.join(root, layout.FORMAT), os.O_RDONLY))
        os.listdir(os.path.join(root, layout.NODES))  # what is cached may still be had without the server
    except OSError as problem:
        return problem if is_away(root, problem) else None
    return None
