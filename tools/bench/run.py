"""How fast it is on this machine: the raw calls, then the spool, in the same run.

python tools/bench/run.py [--quick] [--json] [--dir DIR]

README.md beside this file says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

import killing
import waiting

from spool.bench import speed
from spool.bench.figures import Figures, environment, listing, table
from spool.bench.served import Served, Stamp


class Size(speed.Size, frozen=True):
    """How much of everything, and of what waits."""

    waiting: int = 0
    idle: float = 0  # seconds

    @property
    def files(self) -> int:
        """How many of them there are at once, at most."""
        return max(super().files, self.waiting * 6 // 5)


FULL = Size(repetitions=5, samples=100, tasks=1000, waiting=100_000, idle=10.0)
QUICK = Size(repetitions=2, samples=5, tasks=20, waiting=200, idle=0.5)


def run(place: Path, size: Size) -> Figures:
    """All of it, repetitions interleaved."""
    figures = speed.measure(place, size, lambda done, of: say(f"{done} of {of}"))
    say(f"{size.waiting:,} tasks are to wait")
    stamp = Stamp(place)
    full = Served(place / "waiting", "relaxed", stamp)
    full.start()
    try:
        waiting.fill(figures, full, size.waiting)
        for _ in range(size.repetitions):
            waiting.measure(figures, full, stamp, size.waiting, size.idle)
            killing.measure(figures, full, size.waiting)
    finally:
        full.stop()
    return figures


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
    size = QUICK if args.quick else FULL
    try:
        with speed.room(args.dir, size.files) as place:
            about = environment(place)
            figures = run(place, size)
            about["load_after"] = environment(place)["load"]
    except speed.NoRoom as problem:
        raise SystemExit(f"bench: {problem}") from None
    if args.json:
        print(json.dumps({"quick": args.quick, "environment": about, "figures": figures.rows()}))
        return 0
    print(listing(about))
    print(f"\n{table(figures.rows())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
