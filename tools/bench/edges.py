"""What many tasks that wait for many cost others: N tasks that each wait for the same N.

python tools/bench/edges.py [--dir DIR] [--number N]

A task of class high is submitted again and again, and how long it takes to start is measured: alone,
while those that wait are taken in, and while what they wait for is done and they start.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from spool.bench import speed
from spool.bench.figures import environment, listing
from spool.bench.served import Served, Stamp
from spool.names import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

ALONE = 100  # starts
PAUSE = 0.02  # seconds between them


def starts(
    daemon: Served, stamp: Stamp, more: Callable[[int], bool], pause: float = PAUSE
) -> tuple[list[float], float]:
    """Milliseconds from drop to start of one after the other, and the seconds it all took."""
    found: list[float] = []
    begun = time.monotonic()
    while more(len(found)):
        dropped = daemon.drop({"task": "stamp", "priority": "high"})
        found.append((stamp.read() - dropped) / 1e6)
        time.sleep(pause)
    return found, time.monotonic() - begun


def waiters(daemon: Served, first: list[str]) -> None:
    """As many tasks as there are ids, each in an action of its own, that wait for all of them."""
    for _ in first:
        daemon.drop({"task": "noop", "id": new_id(), "after": first})


def number(root: Path, state: str) -> int:
    """How many files stand below a directory."""
    return sum(len(names) for _, _, names in os.walk(root / state))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    parser.add_argument("--number", type=int, default=1000, help="N (default: %(default)s)")
    args = parser.parse_args()
    with speed.room(args.dir, 10 * args.number) as place:
        print(listing(environment(place)))
        stamp = Stamp(place)
        daemon = Served(place / "spool", "durable", stamp)
        daemon.start()
        first = [new_id() for _ in range(args.number)]
        daemon.spool.submit_many([{"task": "noop", "id": one, "at": "+1h"} for one in first])
        rows = {"alone": starts(daemon, stamp, lambda done: done < ALONE)}
        writer = get_context("fork").Process(target=waiters, args=(daemon, first))
        writer.start()
        rows["taken in"] = starts(
            daemon, stamp, lambda _: writer.is_alive() or number(daemon.root, "held") < args.number
        )
        daemon.spool.act({"action": "move", "ids": first, "at": "+0s"})
        rows["done and started"] = starts(
            daemon, stamp, lambda _: number(daemon.root, "held") + number(daemon.root, "pending") > 0
        )
        daemon.stop()
        stamp.close()
    print(f"\n{args.number} x {args.number}: ms from drop to start, of class high")
    print("| | starts | median | 99 % | most | all took, s |\n|---|---:|---:|---:|---:|---:|")
    for name, (found, took) in rows.items():
        found.sort()
        middle, high, most = statistics.median(found), found[int(len(found) * 0.99)], found[-1]
        print(f"| {name} | {len(found)} | {middle:.1f} | {high:.1f} | {most:.1f} | {took:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
