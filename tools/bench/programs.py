"""Programs a second: /bin/true, one after the other and two at a time, beside a bare loop of spawns.

    python tools/bench/programs.py [--dir DIR] [--number 3000] [--repeat 3] [--json]

As pythons.py measures Python tasks: all files lie in incoming/, and the rate is from the first done event
to the last, taking in included. The prototype, prototype.py, does its file work and a posix_spawn for
each; `ratio` is to as many of it beside each other.
"""

from __future__ import annotations

import json
from pathlib import Path

import prototype
import pythons

from spool.bench.figures import environment, listing

TOML = """
durability = "{durability}"
outbox_limit = 1000000
concurrency = {workers}
[admission]
enabled = false
[handlers.noop]
exec = ["/bin/true"]
"""


def rate(place: Path, kind: str, workers: int, number: int) -> float:
    """Programs a second of the prototype, or of spool with this durability."""
    if kind == pythons.PROTOTYPE:
        return prototype.rate(place, workers, number, spawn=True)
    return pythons.once(place, kind, workers, number, TOML)


def main() -> int:
    """Every case, interleaved, and the medians."""
    args = pythons.options(__doc__, 3000).parse_args()
    about = environment(Path(args.dir).resolve())
    rates = pythons.throughput(args, rate)
    if args.json:
        print(json.dumps({"environment": about, "tasks/s": rates}))
        return 0
    print(listing(about))
    pythons.print_rates(rates)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
