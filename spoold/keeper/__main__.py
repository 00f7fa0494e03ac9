"""The process of the keeper: cuts its ties to whoever started it, then works."""

from __future__ import annotations

import os
import signal
import sys

from . import NAME
from .libc import PR_SET_CHILD_SUBREAPER, PR_SET_NAME, prctl
from .loop import Keeper


def main(args: list[str]) -> None:
    """Work until spoold is gone. `args`: FD [--lease FD] [--begun FD] [--keep FD]..."""
    sock, *kept = [int(arg) for arg in args if not arg.startswith("--")]
    named = dict(zip(args[1::2], kept, strict=True))
    _cut_descriptors({sock, *kept})
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.getsid(0) != os.getpid():
        os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, NAME.encode())
    os.set_blocking(sock, False)
    Keeper(sock, named.get("--lease"), named.get("--begun")).run()


def _cut_descriptors(kept: set[int]) -> None:
    """Close all but the kept ones, which no handler gets, and stderr."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd in kept:
            os.set_inheritable(fd, False)  # noqa: FBT003 - takes no keyword
        elif fd > 2:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed them
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd, inheritable=False)
    os.close(null)


if __name__ == "__main__":
    main(sys.argv[1:])
