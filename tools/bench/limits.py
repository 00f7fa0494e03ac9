"""Limited tasks of many keys: no-op Python tasks a second, from a backlog that lies ready on disk.

    python tools/bench/limits.py [--dir DIR] [--number 60000] [--keys 600] [--tasks 3000] [--json]

*none*: no limit. *per key*: one at a time of each key. *fair*: keys take turns. The keys come one
after the other (mixed), or all tasks of one key before those of the next (blocks). Relaxed, two
workers, admission off. The backlog is made by hand, as a daemon would have left it. The rate is
that of the first --tasks after the first has ended; the gap is the longest time in which none ended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from backlog import HOUR, lay, table
from pythons import APP, ROOT, TOML
from waiting import rss

from spool import limitkey
from spool.bench import speed
from spool.bench.bell import Bell
from spool.bench.figures import environment, listing
from spool.bench.served import cpu_of
from spool.init import init
from spool.names import MARK, Entry, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "args.who"
LIMITS = {
    "none": "",
    "per key": f'concurrency_key = "{KEY}"\nconcurrency_per_key = 1\n',
    "fair": f'fair = "{KEY}"\n',
}


def fill(root: Path, number: int, keys: int, *, blocks: bool, marked: bool) -> None:
    """So many tasks that were due an hour ago."""
    now = time.time_ns() // 1000

    def rows() -> Iterator[tuple[Entry, object]]:
        for n in range(number):
            key = f"k{n * keys // number if blocks else n % keys}"
            extra = ((MARK, limitkey.mark_of("noop*", KEY, key)),) if marked else ()
            entry = Entry(time=now - HOUR + n, id=new_id(now - 2 * HOUR + n), task="noop", extra=extra)
            yield entry, {"who": key}

    lay(root, rows(), now)


def run(place: Path, limit: str, args: argparse.Namespace, *, blocks: bool) -> dict[str, float]:
    """One daemon on one backlog."""
    root = place / "spool"
    init(str(root))
    (place / "benchapp.py").write_text(APP.replace("noop()", "noop(who)"))
    toml = TOML.format(durability="relaxed", workers=2, place=place) + LIMITS[limit]
    (root / "spool.toml").write_text(toml)
    (root / "outbox" / "default").mkdir(mode=0o700)
    fill(root, args.number, args.keys, blocks=blocks, marked=limit != "none")
    profiled = ["-m", "cProfile", "-o", args.profile] if args.profile else []
    bell, begun = Bell(f"{root}/outbox/default"), time.monotonic_ns()
    daemon = subprocess.Popen(
        [sys.executable, *profiled, "-m", "spoold", "-q", "--spool", str(root), "--until-idle"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        first = last = bell.count(1, ",done.json", args.patience)
        used = cpu_of(daemon.pid)
        gap, done = 0, 0
        while done < args.tasks:
            now, names = bell.wait(args.patience)
            done += sum(",done.json" in name for name in names)
            gap, last = max(gap, now - last), now
        memory, used = rss(daemon.pid), cpu_of(daemon.pid) - used
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        bell.close()
    return {
        "tasks/s": done * 1e9 / (last - first),
        "CPU of spoold, us a task": used * 1e6 / done,
        "gap, s": gap / 1e9,
        "first done after, s": (first - begun) / 1e9,
        "memory, MB": memory / 1e6,
        "load": os.getloadavg()[0],
    }


def main() -> int:
    """Every case once, and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default="/var/tmp", help="on which disk (default: %(default)s)")
    parser.add_argument("--number", type=int, default=60_000, help="of tasks that wait")
    parser.add_argument("--keys", type=int, default=600)
    parser.add_argument("--tasks", type=int, default=3000, help="that are waited for")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds without any")
    parser.add_argument("--limits", nargs="*", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--orders", nargs="*", choices=["mixed", "blocks"], default=["mixed", "blocks"])
    parser.add_argument("--profile", metavar="FILE", help="have the last daemon profiled into it")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    for order in args.orders:
        for limit in args.limits:
            with speed.room(args.dir, args.number * 3) as place:
                found = run(place, limit, args, blocks=order == "blocks")
                about = environment(place)
            rows.append({"limit": limit, "keys": order, **found})
            print(f"bench: {rows[-1]}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps({"environment": about, "figures": rows}))
        return 0
    print(listing(about))
    print(f"\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
