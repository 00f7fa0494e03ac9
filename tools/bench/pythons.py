"""Python tasks a second: no-op functions, each dropped as a file of its own, run by warm workers.

    python tools/bench/pythons.py [--dir DIR] [--number 10000] [--repeat 3] [--json]

Throughput: from the first done event to the last, taking in included: the daemon finds all files in
incoming/. In the same run the prototype, prototype.py, does the same with the least that files need;
`ratio` is to the prototype with as many workers. Latency: from right before the rename of a file into
incoming/ to the first line of the function, one at a time on an idle daemon whose worker is warm.
Lateness: from the time a task is for, 2 s after it was submitted, to the first line of its function.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import prototype

from spool import Spool
from spool.bench import speed
from spool.bench.bell import Bell
from spool.bench.figures import environment, listing
from spool.init import init
from spool.names import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PROTOTYPE = "prototype"
FILES = 10  # that a task may need
AHEAD, APART = 2_000_000_000, 20_000_000  # ns
APP = """
import time
from spool import task
@task("noop")
def noop(): pass
@task("noop.stamp")
def stamp(): return time.monotonic_ns()
@task("noop.time")
def wall(): return time.time_ns()
"""
TOML = """
durability = "{durability}"
outbox_limit = 1000000
concurrency = {workers}
[admission]
enabled = false
[handlers."noop*"]
python = "benchapp"
recycle_tasks = 1000000
cwd = "{place}"
"""


def once(place: Path, durability: str, workers: int, number: int, toml: str = TOML) -> float:
    """Tasks a second of one run."""
    root = place / "spool"
    init(str(root))
    (place / "benchapp.py").write_text(APP)
    (root / "spool.toml").write_text(toml.format(durability=durability, workers=workers, place=place))
    (root / "outbox" / "default").mkdir(mode=0o700)
    with Spool(root, durability="relaxed") as spool:
        for _ in range(number):
            spool.submit("noop")
    os.sync()
    bell = Bell(f"{root}/outbox/default")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "spoold", "-q", "--spool", str(root)],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    bell.count(1, ",done.json")
    begun = time.monotonic_ns()
    bell.count(number - 1, ",done.json")
    took = time.monotonic_ns() - begun
    bell.close()
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(60)
    return (number - 1) * 1e9 / took


def rate(place: Path, kind: str, workers: int, number: int) -> float:
    """Tasks a second of the prototype, or of spool with this durability."""
    if kind == PROTOTYPE:
        return prototype.rate(place, workers, number)
    return once(place, kind, workers, number)


def idle(place: Path, durability: str, number: int) -> list[float]:
    """Milliseconds from right before submission to the first line of the function, sorted."""
    with served(place, durability) as spool:
        found = []
        for _ in range(number):
            begun = time.monotonic_ns()
            task_id = spool.submit("noop.stamp")
            found.append((spool.wait(task_id, 60)["result"] - begun) / 1e6)
            time.sleep(prototype.PACE)
        return sorted(found)


@contextmanager
def served(place: Path, durability: str) -> Iterator[Spool]:
    """A daemon whose worker is warm."""
    root = place / "spool"
    init(str(root))
    (place / "benchapp.py").write_text(APP)
    (root / "spool.toml").write_text(TOML.format(durability=durability, workers=1, place=place))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "spoold", "-q", "--spool", str(root)],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with Spool(root, durability=durability) as spool:
        spool.wait(spool.submit("noop"), 60)
        yield spool
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(60)


def latency(place: Path, durability: str, number: int) -> tuple[list[float], list[float]]:
    """Milliseconds from drop to start, and from the time a task is for to its start; both sorted."""
    root = place / "spool"
    waits = []
    with served(place, durability) as spool:
        for _ in range(number):
            task_id = new_id()
            staged = root / "tmp" / f"{task_id}.json"
            staged.write_text(json.dumps({"id": task_id, "task": "noop.stamp"}))
            begun = time.monotonic_ns()
            staged.rename(root / "incoming" / staged.name)
            waits.append((spool.wait(task_id, 60)["result"] - begun) / 1e6)
            time.sleep(prototype.PACE)
        first = time.time_ns() + AHEAD
        moments = [first + i * APART for i in range(number // 2)]
        ids = [spool.submit("noop.time", at=at / 1e9) for at in moments]
        # To the us, as names tell it.
        late = [
            (spool.wait(i, 60)["result"] - at // 1000 * 1000) / 1e6
            for i, at in zip(ids, moments, strict=True)
        ]
    return sorted(waits), sorted(late)


def throughput(
    args: argparse.Namespace, rate: Callable[[Path, str, int, int], float] = rate
) -> dict[str, list[float]]:
    """Tasks a second of every contender, repetitions interleaved."""
    rates: dict[str, list[float]] = {}
    for _ in range(args.repeat):
        for workers in (1, 2):
            for kind in (PROTOTYPE, "relaxed", "durable"):
                with speed.room(args.dir, FILES * args.number) as place:
                    found = rate(place, kind, workers, args.number)
                rates.setdefault(f"{kind}, {workers} worker(s)", []).append(found)
    return rates


def print_rates(rates: dict[str, list[float]]) -> None:
    """A line each, with the ratio to the prototype at the same width."""
    for name, found in rates.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        ratio = middle / statistics.median(rates[f"{PROTOTYPE}, {name.partition(', ')[2]}"])
        print(f"{name:24} {middle:8,.0f} tasks/s  ratio {ratio:.2f}  ({low:,.0f} to {high:,.0f})")


def options(doc: str, number: int) -> argparse.ArgumentParser:
    """What the benchmarks of whole runs are asked for."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    parser.add_argument("--number", type=int, default=number, help="tasks (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="times (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    return parser


def main() -> int:
    """Every case, interleaved, and the medians."""
    args = options(__doc__, 10_000).parse_args()
    about = environment(Path(args.dir).resolve())
    rates = throughput(args)
    times = {}
    for durability in ("relaxed", "durable"):
        with speed.room(args.dir, FILES * args.number) as place:
            waits, late = latency(place, durability, max(20, min(500, args.number // 20)))
        times |= {f"{durability}, drop to start": waits, f"{durability}, lateness": late}
    if args.json:
        print(json.dumps({"environment": about, "tasks/s": rates, "ms": times}))
        return 0
    print(listing(about))
    print_rates(rates)
    for name, ms in times.items():
        p50, p99 = ms[len(ms) // 2], ms[len(ms) * 99 // 100]
        print(f"{name}  p50 {p50:.2f} ms, p99 {p99:.2f} ms  ({len(ms)} tasks)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
