"""How long a death goes unnoticed: of a handler, and of spoold itself with many tasks on its disk."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from spool.bench.bell import Bell

if TYPE_CHECKING:
    from spool.bench.figures import Figures
    from spool.bench.served import Served

BOTH = 2  # handlers that run when spoold is killed
PATIENCE = 60.0
TASK = {"task": "sleep", "retries": 0}


def measure(figures: Figures, daemon: Served, number: int) -> None:
    """One repetition: kill -9 a handler, then spoold while handlers run; until all is recorded."""
    bell, path = Bell(f"{daemon.root}/outbox/default"), daemon.root / ".pids"
    if not path.exists():
        os.mkfifo(path, 0o600)
    pids = os.open(path, os.O_RDWR)
    try:
        _handler(figures, daemon, bell, pids)
        _daemon(figures, daemon, bell, pids, f"spoold, {number:,} waiting")
    finally:
        os.close(pids)
        bell.close()


def _handler(figures: Figures, daemon: Served, bell: Bell, pids: int) -> None:
    daemon.drop(TASK)
    (pid,) = _started(pids, 1)
    begun = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    took = bell.count(1, ",failed.json") - begun
    figures.add("killed", "handler: until it is recorded and told", "ms", took / 1e6)


def _daemon(figures: Figures, daemon: Served, bell: Bell, pids: int, words: str) -> None:
    for _ in range(BOTH):
        daemon.drop(TASK)
    _started(pids, BOTH)
    process = daemon.process
    if process is None:
        raise SystemExit("bench: spoold is gone")
    begun = time.monotonic_ns()
    process.kill()
    process.wait()
    started = time.monotonic_ns()
    daemon.popen()
    back = bell.count(BOTH, ",retrying.json")
    figures.add("killed", f"{words}: from its death until its tasks are back", "s", (back - begun) / 1e9)
    figures.add("killed", f"{words}: from its new start until they are", "s", (back - started) / 1e9)
    for pid in _started(pids, BOTH):  # they run again
        os.kill(pid, signal.SIGKILL)
    bell.count(BOTH, ",failed.json")


def _started(pids: int, number: int) -> list[int]:
    found: list[int] = []
    while len(found) < number:
        if not select.select([pids], [], [], PATIENCE)[0]:
            raise SystemExit(f"bench: {number} handlers do not start within {PATIENCE:g} s")
        found += map(int, os.read(pids, 4096).split())
    return found
