"""How fast it is on this machine: the raw calls, then the spool, in the same run.

python tools/bench/run.py [--quick] [--json] [--dir DIR]

README.md beside this file says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

import killing
import latency
import rates
import raw
import waiting
from figures import Figures, environment, table
from served import Served, Stamp


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    repetitions: int
    samples: int  # of each latency in a repetition
    tasks: int  # through a daemon in a repetition
    waiting: int
    idle: float  # seconds


FULL = Size(repetitions=5, samples=100, tasks=1000, waiting=100_000, idle=10.0)
QUICK = Size(repetitions=2, samples=5, tasks=20, waiting=200, idle=0.5)


def run(place: Path, size: Size) -> Figures:
    """All of it, repetitions interleaved."""
    figures, stamp = Figures(), Stamp(place)
    daemons = [Served(place / name, name, stamp) for name in ("durable", "relaxed")]
    full, empty = Served(place / "waiting", "relaxed", stamp), Served(place / "empty", "durable", stamp)
    try:
        for daemon in daemons:
            daemon.start()
        for number in range(size.repetitions):
            say(f"repetition {number + 1} of {size.repetitions}")
            raw.measure(figures, place / "raw", size.samples)
            latency.measure(figures, daemons, stamp, size.samples)
            for daemon in daemons:
                rates.throughput(figures, daemon, size.tasks)
            rates.submit(figures, empty.root, size.tasks)
        for daemon in daemons:
            daemon.stop()
            shutil.rmtree(daemon.root)  # the next part needs the room
        say(f"{size.waiting:,} tasks are to wait")
        full.start()
        waiting.fill(figures, full, size.waiting)
        for _ in range(size.repetitions):
            waiting.measure(figures, full, stamp, size.waiting, size.idle)
            killing.measure(figures, full, size.waiting)
    finally:
        for daemon in (*daemons, full):
            daemon.stop()
    return figures


def need_room(place: Path, size: Size) -> None:
    """Stop here where there is no room for as many files."""
    found = os.statvfs(place)
    files = size.waiting * 6 // 5
    if found.f_files and found.f_favail < files:
        raise SystemExit(f"bench: {place.parent} has {found.f_favail:,} free inodes, not {files:,}")
    if found.f_bavail * found.f_frsize < files * 4096:
        raise SystemExit(f"bench: {place.parent} has less than {files * 4096 >> 20:,} MiB free")


def say(text: str) -> None:
    """To whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="spool-bench-", dir=args.dir)).resolve()
    size = QUICK if args.quick else FULL
    try:
        need_room(place, size)
        about = environment(place)
        figures = run(place, size)
        about["load_after"] = environment(place)["load"]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if args.json:
        print(json.dumps({"quick": args.quick, "environment": about, "figures": figures.rows()}))
        return 0
    for name, value in about.items():
        print(f"- {name.replace('_', ' ')}: {value}")
    print(f"\n{table(figures.rows())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
