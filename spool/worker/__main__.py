"""The process of a worker: its ties cut, its socket put aside, then work."""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from spool.errors import EX_SOFTWARE
from spool.worker.line import Closed, Line


def main() -> int:
    """Work until spoold says so, or is gone; an exit status."""
    sock = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    line = Line(sock)
    try:
        hello = line.receive(wait=True)[0]
        from spool.worker.serve import Worker

        return Worker(line, hello).run()
    except Closed as problem:
        with contextlib.suppress(OSError):  # a task may have closed that as well
            print(f"the line to spoold is closed: {problem}", file=sys.stderr)
        return EX_SOFTWARE


if __name__ == "__main__":
    sys.exit(main())
