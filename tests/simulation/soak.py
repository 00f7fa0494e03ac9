"""Histories one after the other for a given time: `python -m tests.simulation.soak --seconds N [--seed S]`."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from typing import Any

from tests.simulation.run import simulate

# Every history takes the next of these in turn.
KINDS: tuple[dict[str, Any], ...] = (
    {"cuts": 0},
    {"cuts": 1},
    {"cuts": 2, "steps": 90},
    {"cuts": 1, "window": 16},
    {"cuts": 0, "durability": "relaxed"},
    {"cuts": 0, "daemons": 2, "lease": 10},
    {"cuts": 1, "daemons": 3, "lease": 10},
    {"cuts": 0, "daemons": 2, "lease": 10, "far": 3},
    {"cuts": 1, "daemons": 3, "lease": 10, "far": 25},
)


def main(argv: list[str] | None = None) -> int:
    """Prints how many histories an hour, and the shortest story of each that broke a promise."""
    found = argparse.ArgumentParser(prog="soak", description=__doc__)
    found.add_argument("--seconds", type=float, default=3600)
    found.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    args = found.parse_args(argv)
    logging.disable(logging.CRITICAL)
    begun, seed, tasks, broken = time.monotonic(), args.seed, 0, 0
    print(f"from seed {seed}", flush=True)
    while (spent := time.monotonic() - begun) < args.seconds:
        kind = {**KINDS[seed % len(KINDS)], "keyed": 0.4 * (seed // len(KINDS) % 2)}
        kind["linked"] = 0.5 * (seed // len(KINDS) % 3 == 2)
        kind["limited"] = 0.7 * (seed // len(KINDS) % 5 == 4)
        story = simulate(seed, **kind)
        tasks += story.tasks
        if story.problem is not None:
            broken += 1
            print(story, flush=True)
        seed += 1
    count = seed - args.seed
    rate = round(count / spent * 3600)
    print(f"{count} histories, {tasks} tasks, {broken} broke a promise; {rate} histories an hour")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
