"""What a backlog costs: the same figures with none, a thousand, ... a million tasks that wait.

python tools/bench/backlog.py [--dir DIR] [--sizes N,N,...] [--plot FILE.svg] [--json]

The backlog is made by hand, file by file, as a daemon would have left it: half a minute for a million.
`future` tasks are for the next 30 days, `ready` ones were due an hour ago and run meanwhile, `ended`
ones are done since midnight, with their records and their lines in the journal. README.md tells what is
measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from multiprocessing import Process
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from waiting import rss

from spool import layout
from spool.bench import speed
from spool.bench.bell import Bell
from spool.bench.figures import environment, listing
from spool.bench.served import NODE, Served, Stamp
from spool.names import Entry, new_id
from spool.times import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KINDS = ("future", "ready", "ended")
STEPS = ("submit", "claim", "succeed")
HOUR, DAY = 3_600_000_000, 86_400_000_000
REPETITIONS = 3
TASKS = 1000  # that are done beside the backlog, or from it
SINGLES = 200  # submissions one by one
IDLE = 5.0  # seconds
WRITERS = 2


def fill(root: Path, kind: str, number: int) -> None:
    """So many tasks, as a daemon has them on disk."""
    parts = [Process(target=_fill, args=(root, kind, range(n, number, WRITERS))) for n in range(WRITERS)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
        if part.exitcode:
            raise SystemExit("bench: the backlog could not be made")


def _fill(root: Path, kind: str, numbers: range) -> None:
    now = time.time_ns() // 1000
    if kind == "ended":
        _done(root, numbers, now)
        return

    def rows() -> Iterator[tuple[Entry, object]]:
        for n in numbers:
            at = now + DAY + n * 2_000_000 % (30 * DAY) if kind == "future" else now - HOUR + n
            yield Entry(time=at, id=new_id(now - DAY // 2 + n), task="noop"), {}

    lay(root, rows(), now)


def _done(root: Path, numbers: range, now: int) -> None:
    """Tasks that were done today, a batch in each millisecond."""
    made = [Entry(time=now - n, id=new_id(now - n), task="noop") for n in numbers]
    lay(root, ((entry, {}) for entry in made), now, ended=True)
    path = f"{root}/{layout.journal(NODE, now)}"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for entry in made:
        record = f"{root}/{layout.record(entry.id, 1)}"
        os.makedirs(os.path.dirname(record), mode=0o700, exist_ok=True)
        facts = {"id": entry.id, "task": entry.task, "entry": layout.ended("done", now, entry)}
        Path(record).write_text(json.dumps({"v": 1, "event": "done", "outcome": "ok", **facts}))
        for step in STEPS:
            line = {"at": format_utc(now), "event": step, **facts, "node": NODE, "attempt": 1}
            os.write(fd, json.dumps(line).encode() + b"\n")
    os.close(fd)


def lay(root: Path, rows: Iterable[tuple[Entry, object]], now: int, *, ended: bool = False) -> None:
    """Tasks, each with its args, where a daemon that took them in at `now` (us) would have left them."""
    made: set[str] = set()
    for entry, args in rows:
        own = f"{root}/{layout.own_copy(entry.id)}"
        place = f"{root}/{layout.ended('done', now, entry) if ended else layout.pending(entry)}"
        for folder in {os.path.dirname(own), os.path.dirname(place)} - made:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            made.add(folder)
        doc = {"v": 1, "id": entry.id, "task": entry.task, "args": args, "at": format_utc(entry.time)}
        fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, json.dumps({**doc, "submitted_at": format_utc(now)}).encode())
        os.close(fd)
        os.link(own, place)


def measure(daemon: Served, stamp: Stamp, kind: str, *, cold: bool) -> dict[str, float]:
    """Start with one more task, high, then send some through beside the backlog."""
    daemon.stop()
    daemon.drop({"task": "stamp", "priority": "high"})
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    begun = time.monotonic_ns()
    process = daemon.popen()
    found = {"start to first dispatch, s": (stamp.read() - begun) / 1e9}
    if cold:
        return found
    bell = Bell(f"{daemon.root}/outbox/default")
    if kind != "ready":
        daemon.spool.submit_many([{"task": "noop"}] * TASKS)
    else:  # which comes first is known when all names have been read
        found["first of it done, s"] = (bell.count(1, ",noop,") - begun) / 1e9
    begun = time.monotonic_ns()
    found["a task, us"] = (bell.count(TASKS, ",noop,") - begun) / TASKS / 1000
    bell.close()
    begun = time.monotonic_ns()
    for _ in range(SINGLES):
        daemon.spool.submit("noop", at="+1d")
    found["a submission, us"] = (time.monotonic_ns() - begun) / SINGLES / 1000
    found["memory, MB"] = rss(process.pid) / 1e6
    return found


def idle(daemon: Served) -> float:
    """CPU seconds of ten in which nothing happens."""
    time.sleep(3)
    before, since = daemon.cpu(), time.monotonic()
    time.sleep(IDLE)
    return (daemon.cpu() - before) / (time.monotonic() - since) * 10


def run(place: Path, kind: str, number: int, *, cold: bool) -> dict[str, object]:
    """All figures with one backlog; medians."""
    stamp = Stamp(place)
    daemon = Served(place / "spool", "relaxed", stamp)
    begun = time.monotonic()
    fill(daemon.root, kind, number)
    filled = time.monotonic() - begun
    try:
        rows = [measure(daemon, stamp, kind, cold=False) for _ in range(REPETITIONS)]
        found: dict[str, object] = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
        if kind == "future":
            found["CPU while idle, s in 10 s"] = idle(daemon)
        if cold:
            rows = [measure(daemon, stamp, kind, cold=True) for _ in range(REPETITIONS)]
            found |= {f"{k}, nothing cached": statistics.median(r[k] for r in rows) for k in rows[0]}
    finally:
        daemon.stop()
        stamp.close()
    print(f"bench: {number:,} {kind}: {json.dumps(found)}", file=sys.stderr, flush=True)
    begun = time.monotonic()
    shutil.rmtree(daemon.root)
    found["made in, s"], found["removed in, s"] = filled, time.monotonic() - begun
    return {"kind": kind, "waiting": number, **found}


def table(rows: list[dict[str, object]]) -> str:
    """Markdown, one line for each backlog."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(names)} |", f"|---|{'---:|' * (len(names) - 1)}"]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        texts = [
            f"{c:,}" if isinstance(c, int) else f"{c:.3g}" if isinstance(c, float) else str(c)
            for c in cells
        ]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, object]], path: str) -> None:
    """Microseconds a task against the backlog, as SVG; needs matplotlib."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5))
    for kind, marker in zip(KINDS, "os^", strict=True):
        points = [
            (row["waiting"], row["a task, us"]) for row in rows if row["kind"] == kind and row["waiting"]
        ]
        axes.plot(*zip(*points, strict=True), marker=marker, label=f"{kind} tasks")
    axes.set(xscale="log", xlabel="tasks that are there", ylabel="microseconds a task", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    parser.add_argument("--sizes", default="0,1000,10000,100000,1000000", help="default: %(default)s")
    parser.add_argument("--cold", action="store_true", help="empty caches too (root; slows down others)")
    parser.add_argument("--plot", metavar="FILE", help="draw it (matplotlib)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    rows = []
    with speed.room(args.dir, max(sizes) + 50 * TASKS) as place:
        about = environment(place)
        for size in sizes:
            for kind in KINDS:
                if kind == "future" or size >= 10 * TASKS:
                    print(f"bench: {size:,} {kind}", file=sys.stderr, flush=True)
                    rows.append(run(place, kind, size, cold=args.cold))
        about["load_after"] = environment(place)["load"]
    if args.plot:
        plot(rows, args.plot)
    if args.json:
        print(json.dumps({"environment": about, "figures": rows}))
        return 0
    print(listing(about))
    print(f"\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
