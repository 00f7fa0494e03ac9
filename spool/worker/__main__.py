"""The process of a worker: its ties cut, its socket put aside, then work."""

from __future__ import annotations

import os
import socket

from spool.worker.line import Closed, Line


def main() -> int:
    """Work until spoold says so, or is gone; an exit status."""
    sock = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    line = Line(sock)
    try:
        hello, *rest = line.receive(wait=True)
        from spool.worker.serve import Worker

        worker = Worker(line, hello)
        worker.waiting.extend(m for m in rest if m["op"] == "start")
        return worker.run()
    except Closed:
        return 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
