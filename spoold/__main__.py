"""The command spoold, and python -m spoold: the daemon, where it can run."""

import gc
import os
import sys

from spool import folders, streams

ELSEWHERE = """spoold: runs on Linux only: it needs inotify, timerfd, pidfd and /proc, and this is {}.
The library and the command `spool` work without: submit from here to a spool that a Linux host serves.
"""


def main() -> int:
    """Serve; or say why not, before anything is asked for that is not there."""
    if sys.platform != "linux":
        sys.stderr.write(ELSEWHERE.format(sys.platform))
        return 69
    if not os.path.isdir(folders.OPEN):
        sys.stderr.write(f"spoold: {folders.OPEN} is not there: mount -t proc proc /proc\n")
        return 69
    streams.complete()
    gc.disable()  # what is imported stays: to look through it again and again takes a tenth of a start
    from spoold.daemon import main as serve
    from spoold.unread import patient

    patient()
    return serve()


if __name__ == "__main__":
    sys.exit(main())
