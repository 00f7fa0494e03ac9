"""Tasks a second: through a daemon and back, and into a spool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from spool import Spool
from spool.bench.bell import Bell

if TYPE_CHECKING:
    from pathlib import Path

    from spool.bench.figures import Figures
    from spool.bench.served import Served

BATCH = 100


def throughput(figures: Figures, daemon: Served, number: int) -> None:
    """One repetition of exec and notify: from the submission of all to the last done event."""
    bell = Bell(f"{daemon.root}/outbox/default")
    begun = time.monotonic_ns()
    daemon.spool.submit_many([{"task": "noop"}] * number)
    rate = number * 1e9 / (bell.count(number, ",done.json") - begun)
    bell.close()
    figures.add("throughput", f"exec of /bin/true, {daemon.durability}", "tasks/s", rate)

    begun = time.monotonic_ns()
    daemon.spool.submit_many([{"task": "ask"}] * number)
    left = number
    for event in daemon.spool.outbox("asked", timeout=120):
        if event.event == "ready":
            daemon.spool.ack(event.id, event.attempt or 0)
        left -= event.event == "done"
        if not left:
            break
    rate = number * 1e9 / (time.monotonic_ns() - begun)
    figures.add("throughput", f"notify, ack, done, {daemon.durability}", "tasks/s", rate)


def submit(figures: Figures, place: Path, number: int) -> None:
    """One repetition of submissions by the library, with no daemon there."""
    kinds: tuple[Literal["durable", "relaxed"], ...] = ("durable", "relaxed")
    for durability in kinds:
        with Spool(place, durability=durability) as spool:
            begun = time.monotonic_ns()
            for _ in range(number):
                spool.submit("noop", {"to": "zoe@example.org"})
            rate = number * 1e9 / (time.monotonic_ns() - begun)
            figures.add("submit", f"one by one, {durability}", "tasks/s", rate)
            task: dict[str, Any] = {"task": "noop", "args": {"to": "zoe@example.org"}}
            begun = time.monotonic_ns()
            for _ in range(number // 10):
                spool.submit_many([task] * BATCH)
            rate = number // 10 * BATCH * 1e9 / (time.monotonic_ns() - begun)
            figures.add("submit", f"{BATCH} in a batch, {durability}", "tasks/s", rate)
    for path in (place / "incoming").iterdir():
        path.unlink()
