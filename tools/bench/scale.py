"""Nodes against one file server, simulated from counts of calls: `python tools/bench/scale.py --help`.

What is modelled: a node does the calls of its tasks one after the other, as its loop does; each takes
the way there and back, and its turn at the server, whose threads serve who comes first, each call for
a time drawn at random. Beside it a node looks at incoming/ and pending/, and beats. What is not:
handlers that need the node's CPU, a disk below the server that is slower for some calls, and renames
that are lost to another node. Calls a task and a look are measured: `make cluster` prints them.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass

WARM, SPAN = 1.0, 5.0  # seconds of the simulation before and while it is measured
STARTS = 0.4  # of the calls of a task, that many come before its handler runs
SLOW = 1.0  # seconds between looks of an idle node


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same, whatever the number of nodes."""

    calls: float  # of a task
    looks: float  # calls a second of a busy node for looks and beats
    cpu: float  # s of the node's loop for a task
    rtt: float  # s
    capacity: float  # calls a second of the server
    threads: int


class Server:
    """Calls wait for one of its threads; the times are those of the simulation, in seconds."""

    def __init__(self, setting: Setting, rng: random.Random) -> None:
        self.setting = setting
        self.rng = rng
        self.free = [0.0] * setting.threads

    def answer(self, sent: float) -> float:
        """When the answer is back. Calls have to be given in the order of their sending."""
        begun = max(heapq.heappop(self.free), sent + self.setting.rtt / 2)
        ended = begun + self.rng.expovariate(self.setting.capacity / self.setting.threads)
        heapq.heappush(self.free, ended)
        return ended + self.setting.rtt / 2


def busy(setting: Setting, nodes: int, seed: int = 1) -> tuple[float, float]:
    """Tasks a second of all nodes together while there is work, and calls a second at the server."""
    rng = random.Random(seed)
    server = Server(setting, rng)
    due = [(rng.random() * 0.01, node) for node in range(nodes)]
    due += [(rng.random(), node + nodes) for node in range(nodes)]  # the looks of each
    heapq.heapify(due)
    tasks = calls = 0.0
    while due[0][0] < WARM + SPAN:
        at, who = heapq.heappop(due)
        back = server.answer(at)
        counted = at >= WARM
        calls += counted
        if who < nodes:
            tasks += counted / setting.calls
            heapq.heappush(due, (back + rng.expovariate(setting.calls / max(setting.cpu, 1e-9)), who))
        else:
            heapq.heappush(due, (max(back, at + rng.expovariate(setting.looks)), who))
    return tasks / SPAN, calls / SPAN


def idle(setting: Setting, seed: int = 1) -> tuple[float, float]:
    """Seconds from a drop on another host to the start of its handler, p50 and p99, where all is idle."""
    rng = random.Random(seed)
    found = []
    for _ in range(2000):
        now = rng.uniform(0, SLOW)
        server = Server(setting, rng)
        for _ in range(round(setting.calls * STARTS)):
            now = server.answer(now) + setting.cpu / setting.calls
        found.append(now)
    found.sort()
    return found[len(found) // 2], found[len(found) * 99 // 100]


def main() -> None:
    """A table, or one object a line."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--calls", type=float, default=34, help="to the file server, for a task")
    parser.add_argument("--looks", type=float, default=45, help="calls a second of a busy node besides")
    parser.add_argument("--cpu", type=float, default=1.0, help="ms of a node's loop for a task")
    parser.add_argument("--rtt", type=float, nargs="*", default=[0.1, 0.3, 1, 5], help="ms")
    parser.add_argument("--capacity", type=float, nargs="*", default=[5000, 20000, 100000])
    parser.add_argument("--threads", type=int, default=8, help="of the server")
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for capacity in args.capacity:
        for rtt in args.rtt:
            setting = Setting(args.calls, args.looks, args.cpu / 1e3, rtt / 1e3, capacity, args.threads)
            rates = {nodes: busy(setting, nodes)[0] for nodes in args.nodes}
            middle, most = idle(setting)
            if args.json:
                row = {"capacity": capacity, "rtt_ms": rtt, "rates": rates, "p50": middle, "p99": most}
                print(json.dumps(row))
                continue
            cells = " ".join(f"{nodes}: {rate:.0f}" for nodes, rate in rates.items())
            print(f"{capacity:g} calls/s, {rtt:g} ms  tasks/s by nodes  {cells}")
            print(f"{'':24}idle: a drop runs after {middle:.2f} s p50, {most:.2f} s p99")


if __name__ == "__main__":
    main()
