"""A daemon with many tasks that wait for tomorrow: what it costs to have them, and to start with them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spool.bench.figures import Figures
    from spool.bench.served import Served, Stamp

PATIENCE = 300.0  # seconds to take them all in, or more where
SLOWEST = 300  # tasks a second take longer
SETTLE = 2.0  # seconds after the last of them came


def fill(figures: Figures, daemon: Served, number: int) -> None:
    """Have the daemon take in so many tasks."""
    begun = time.monotonic()
    for first in range(0, number, 1000):
        part = min(1000, number - first)
        daemon.spool.submit_many([{"task": "noop", "at": "+1d"}] * part)
    while os.listdir(daemon.root / "incoming"):
        if time.monotonic() > begun + max(PATIENCE, number / SLOWEST):
            raise SystemExit(f"bench: {number:,} tasks are not taken in, nor {SLOWEST} a second")
        time.sleep(0.02)
    took = time.monotonic() - begun
    figures.add("waiting", "taken in, batches of 1000, relaxed", "tasks/s", number / took)


def measure(figures: Figures, daemon: Served, stamp: Stamp, number: int, seconds: float) -> None:
    """One repetition: start with one more task that is ready, then sit still."""
    daemon.stop()
    daemon.drop({"task": "stamp"})
    begun = time.monotonic_ns()
    process = daemon.popen()
    name = f"start to first dispatch, {number:,} waiting"
    figures.add("waiting", name, "s", (stamp.read() - begun) / 1e9)
    time.sleep(SETTLE)
    before, since = daemon.cpu(), time.monotonic()
    time.sleep(seconds)
    used = (daemon.cpu() - before) / (time.monotonic() - since)
    figures.add("waiting", f"CPU while idle, {number:,} waiting", "s/10 s", used * 10)
    figures.add("waiting", f"memory (RSS), {number:,} waiting", "MB", rss(process.pid) / 1e6)


def rss(pid: int) -> int:
    """Memory a process has, bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
