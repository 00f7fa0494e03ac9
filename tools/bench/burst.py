"""A burst of dropped files: how many are taken in a second, and how long a high task waits meanwhile.

    python tools/bench/burst.py [--dir DIR] [--number 100000] [--repeat 3]

`lying`: the files are there before the daemon is. `dropped`: a writer drops them as fast as it can
beside it. Meanwhile a high task is dropped every 30 ms; its figure is from right before the rename of
its file until its handler runs. Durability is relaxed; all other tasks are for tomorrow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from multiprocessing import Process
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from edges import starts

from spool.bench import speed
from spool.bench.figures import environment, listing
from spool.bench.served import Served, Stamp

APART = 0.03  # seconds
KINDS = ("lying", "dropped")


def drop(root: Path, number: int) -> None:
    """So many files, each with one task, renamed into incoming/."""
    os.chdir(root)
    for n in range(number):
        staged = f"tmp/b{n}"
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b'{"task": "noop", "at": "+1d"}')
        os.close(fd)
        os.rename(staged, f"incoming/b{n:07}.json")


def run(place: Path, kind: str, number: int) -> tuple[float, list[float]]:
    """Tasks taken in a second, and the waits of high ones (ms, sorted)."""
    stamp = Stamp(place)
    daemon = Served(place / "spool", "relaxed", stamp)
    writer = Process(target=drop, args=(daemon.root, number))
    writer.start()
    try:
        if kind == "lying":
            writer.join()
        daemon.start()
        incoming = daemon.root / "incoming"
        waits, took = starts(
            daemon, stamp, lambda _: writer.is_alive() or bool(os.listdir(incoming)), APART
        )
        return number / took, sorted(waits)
    finally:
        writer.kill()
        daemon.stop()
        stamp.close()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    parser.add_argument("--number", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, list[float]]]] = {kind: [] for kind in KINDS}
    for _ in range(args.repeat):
        for kind in KINDS:
            with speed.room(args.dir, 3 * args.number) as place:
                found[kind].append(run(place, kind, args.number))
                about = environment(place)
    print(listing(about))
    print("\n| | taken in, tasks/s | high p50, ms | p99 | max |\n|---|---:|---:|---:|---:|")
    for kind, runs in found.items():
        rate = statistics.median(rate for rate, _ in runs)
        p50, p99, most = (
            statistics.median(waits[len(waits) * p // 101] for _, waits in runs) for p in (50, 99, 100)
        )
        print(f"| {kind} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {most:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
