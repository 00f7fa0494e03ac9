"""What admission costs, and what it saves.

    python tools/bench/admission.py [--json] [--seconds N]

Cost: a decision of the core, a look at this machine, CPU of a daemon that is idle and of one whose
gate is shut. Gain: traces replayed on a model of a machine with 4 CPUs and 8 GiB, the real core with
admission against a fixed pool of the same size. README.md beside this file has results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from spool.bench.figures import Figures, environment, listing, table
from spool.bench.served import Served, Stamp
from spool.settings import load
from spoold.core.admit import Demand, Limits, Machine, admit, foresee
from spoold.core.state import State
from spoold.sources.machine import Gauge
from tests.simulation import test_traces as traces

ROUNDS, SAMPLES = 5, 2000
SHUT = "[admission]\nfloor = 0\nmemory = [0, 0]\n"
DEMAND = Demand(task="report", memory=1 << 30, cores=0.5, shown=True)


def decisions(figures: Figures) -> None:
    """The core: foresight and verdict, with as many processes running."""
    limits = Limits(admission=load("").admission)
    machine = Machine(
        at=0, cpus=8, cores=8, total=1 << 36, available=1 << 35, load=4.0, memory_pressure=1.0
    )  # fmt: skip
    for running in (0, 8, 64):
        booked = {str(n): DEMAND for n in range(running)}
        begun = time.perf_counter_ns()
        for _ in range(SAMPLES):
            admit(foresee(machine, booked, 1.0), DEMAND, limits, 0)
        took = (time.perf_counter_ns() - begun) / SAMPLES / 1000
        figures.add("cost", f"a decision, {running} running", "us", took)


def looks(figures: Figures) -> None:
    """The machine this runs on, with no processes of ours."""
    gauge = Gauge(State("bench", load(""), 2), "/", dict)
    gauge.look(0)  # imports psutil, asks the sensors
    begun = time.perf_counter_ns()
    for number in range(200):
        gauge.look(number)
    took = (time.perf_counter_ns() - begun) / 200 / 1000
    figures.add("cost", "a look at the machine, at most one a second", "us", took)


def daemons(figures: Figures, place: Path, seconds: float) -> None:
    """CPU of the daemon and its keeper."""
    stamp = Stamp(place)
    for name, more in (("idle", ""), ("with a shut gate", SHUT)):
        daemon = Served(place / name.replace(" ", "-"), "durable", stamp)
        settings = daemon.root / "spool.toml"
        settings.write_text(settings.read_text().replace("admission.enabled = false\n", "") + more)
        try:
            daemon.start()
            if more:
                daemon.drop({"task": "noop"})
                _shut(daemon)
            time.sleep(1)
            before, since = daemon.cpu(), time.monotonic()
            time.sleep(seconds)
            used = (daemon.cpu() - before) / (time.monotonic() - since)
            figures.add("cost", f"CPU of a daemon {name}", "s/10 s", used * 10)
        finally:
            daemon.stop()


def _shut(daemon: Served) -> None:
    status, end = daemon.root / "nodes" / "bench.json", time.monotonic() + 60
    while json.loads(status.read_bytes())["gate"]["open"]:
        if time.monotonic() > end:
            raise SystemExit("bench: the gate does not shut")
        time.sleep(0.05)


def replays() -> list[dict[str, Any]]:
    """Every trace, by both, seeds added up; p99 is the median of the seeds'."""
    rows = []
    for trace in traces.ALL:
        for name, toml in (("fixed pool", traces.FIXED), ("admission", traces.ADMISSION)):
            found = [traces.play(toml, trace, seed) for seed in range(1, 6)]
            rows.append({
                "trace": trace,
                "policy": name,
                "tasks_a_minute": 60 * sum(o.done for o in found) / sum(o.seconds for o in found),
                "oom_kills": sum(o.killed for o in found),
                "failed": sum(o.failed for o in found),
                "overshoot": max(o.overshoot for o in found),
                "p99_seconds": statistics.median(o.p99() for o in found),
            })  # fmt: skip
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| trace | policy | tasks/min | killed for memory | failed | overshoot | p99, s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        numbers = (f"{row['tasks_a_minute']:.1f}", row["oom_kills"], row["failed"], row["overshoot"])
        cells = " | ".join(map(str, (*numbers, f"{row['p99_seconds']:.0f}")))
        lines.append(f"| {row['trace']} | {row['policy']} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON, not tables")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a daemon is watched for")
    args = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="spool-bench-", dir="/var/tmp") as place:
        about = environment(Path(place))
        for number in range(ROUNDS):
            decisions(figures)
            looks(figures)
            (Path(place) / str(number)).mkdir()
            daemons(figures, Path(place) / str(number), args.seconds)
    rows = replays()
    if args.json:
        print(json.dumps({"environment": about, "figures": figures.rows(), "replays": rows}))
        return 0
    print(listing(about))
    print(f"\n{table(figures.rows())}\n\n{shown(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
