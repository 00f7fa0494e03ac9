"""From the rename of an action into incoming/ to the start of its handler, or to its ready event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spool.bench import raw
from spool.bench.bell import Bell
from spool.bench.figures import SPAWN

if TYPE_CHECKING:
    from spool.bench.figures import Figures
    from spool.bench.served import Served, Stamp

REST = 0.01  # seconds between two measurements: an idle daemon sleeps


def measure(figures: Figures, daemons: list[Served], stamp: Stamp, number: int) -> None:
    """One repetition: everything in turn, one at a time, each on a daemon with nothing to do."""
    times: dict[str, list[int]] = {}
    spawns: list[int] = []
    bells = [(Bell(f"{d.root}/outbox/default"), Bell(f"{d.root}/outbox/asked")) for d in daemons]
    try:
        for _ in range(number):
            for daemon, (done, asked) in zip(daemons, bells, strict=True):
                spawns.append(raw.spawn())
                what = f"drop to start of exec, {daemon.durability}"
                times.setdefault(what, []).append(_exec(daemon, stamp, done))
                time.sleep(REST)
                what = f"drop to ready, {daemon.durability}"
                times.setdefault(what, []).append(_ask(daemon, asked))
                time.sleep(REST)
    finally:
        for pair in bells:
            for bell in pair:
                bell.close()
    figures.times("latency", f"{SPAWN}, in between", spawns)
    for what, ns in sorted(times.items()):
        figures.times("latency", what, ns)


def _exec(daemon: Served, stamp: Stamp, done: Bell) -> int:
    begun = daemon.drop({"task": "stamp"})
    found = stamp.read() - begun
    done.count(1, ",done.json")
    return found


def _ask(daemon: Served, asked: Bell) -> int:
    begun = daemon.drop({"task": "ask"})
    now, names = asked.wait()
    task_id = names[0].split(",")[1]
    daemon.drop({"action": "ack", "id": task_id, "attempt": 1})
    asked.count(1, ",done.json")
    return now - begun
