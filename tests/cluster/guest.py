"""What runs on a host of the proof: `python -m tests.cluster.guest VERB DIR ...`."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from glob import glob
from typing import Any

from spool import fsck, layout, look
from spool.client import Spool
from spool.disk import RealDisk
from spool.names import parse_event

TERMINAL = ("done", "failed", "cancelled")
TICK = 0.02  # s, of the file server's times
MOST = 1 << 20  # bytes of a file
PATIENCE = 300  # s until what a dead host ran must run elsewhere
RAN = "/dev/shm/spool-ran"  # where what runs on a host says so, by the uptime of the host
LINGER = 1.0  # s that a handler may outlive the node it belongs to
# Of a run: "b" and "e", when its files came that tell of its begin and end; "ran" and "runs", the first
# and the last that it said on its host, where this was not without power since.
Times = dict[str, float]


def submit(where: str, count: str, seed: str, pace: str) -> None:
    """Submit tasks one after the other, `pace` s apart; an id is printed when it is acknowledged."""
    rng = random.Random(seed)
    with Spool(f"{where}/q") as spool:
        for _ in range(int(count)):
            task = rng.choice(("run.exec", "run.py"))
            print(spool.submit(task, {"sleep": rng.choice((0, 0, 0.05, 0.3))}), flush=True)
            time.sleep(rng.uniform(0, 2 * float(pace)))


def plain(where: str, count: str, task: str, args: str = "{}") -> None:
    """Submit so many of one kind."""
    with Spool(f"{where}/q") as spool:
        spool.submit_many([{"task": task, "args": json.loads(args)} for _ in range(int(count))])


def second(where: str, victim: str) -> None:
    """Wait until what was begun on one node has begun on another; print how many there were."""
    begun = {name.split(".")[0] for name in os.listdir(f"{where}/w") if name.split(".")[2] == victim}
    ended = {name.split(".")[0] for name in os.listdir(f"{where}/w") if name.endswith(".e")}
    print(len(begun - ended), flush=True)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for name in os.listdir(f"{where}/w"):
            task, attempt, node, _ = name.split(".")
            if task in begun - ended and int(attempt) > 1 and node != victim:
                print(name, flush=True)
                return
        time.sleep(0.05)


def calls(where: str) -> None:
    """How many operations this host has asked the file server for."""
    total, ours = 0, False
    with open("/proc/self/mountstats", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["device"]:
                ours = len(words) > 4 and where.startswith(words[4])
            elif ours and len(words) > 5 and words[0].rstrip(":").isupper() and words[1].isdigit():
                total += int(words[1])
    print(total)


def spans(where: str) -> None:
    """Tasks a second, between the first tenth that has ended and the last, and by which nodes."""
    ends, nodes = [], Counter[str]()
    for folder in os.listdir(f"{where}/q/attempts"):
        for name in os.listdir(f"{where}/q/attempts/{folder}"):
            with open(f"{where}/q/attempts/{folder}/{name}", "rb") as file:
                record = json.loads(file.read())
            ends.append(os.stat(f"{where}/q/attempts/{folder}/{name}").st_mtime)
            nodes[record["node"]] += 1
    ends.sort()
    low, high = len(ends) // 10, len(ends) * 9 // 10
    rate = (high - low) / max(1e-3, ends[high] - ends[low])
    print(json.dumps({"tasks": len(ends), "rate": round(rate, 1), "nodes": dict(sorted(nodes.items()))}))


def promises(where: str) -> None:
    """What is not as it was promised though nobody serves; ids that were acknowledged come on stdin."""
    disk = RealDisk(f"{where}/q")
    wrong: list[str] = []
    states: dict[str, str] = {}
    for path, entry in look.entries(disk, layout.STATES):
        look.read_task(disk, path)
        states[entry.id] = path.split("/")[0]
    incoming = [f"{layout.INCOMING}/{name}" for name in look.names(disk, layout.INCOMING)]
    dropped = {json.loads(disk.read(path, MOST))["id"] for path in incoming}
    ids = sys.stdin.read().split()
    wrong += [
        f"{task} was acknowledged and is gone" for task in ids if task not in dropped | states.keys()
    ]
    told = 0
    for parent in look.names(disk, layout.OUTBOX):
        for name in look.names(disk, f"{layout.OUTBOX}/{parent}"):
            _, task, _, kind = parse_event(name)
            event = json.loads(disk.read(f"{layout.OUTBOX}/{parent}/{name}", MOST))
            told += 1
            if look.record(disk, task, event["attempt"])["outcome"] != event["outcome"]:
                wrong.append(f"{name} tells another outcome than its record")
            if kind in TERMINAL and states.get(task) != kind:
                wrong.append(f"{name}: the task stands in {states.get(task)}")
            run = f"{where}/w/{task}.{event['attempt']}.{event['node']}.e"
            if kind == "done" and not os.path.exists(run):
                wrong.append(f"{name}: what it did is not there")
    print(json.dumps({"ids": len(ids), "tasks": len(states), "events": told, "wrong": wrong}))


def ran(where: str, host: str) -> None:
    """What ran on this host, and when, by the clock of the file server: for `look_at`."""
    path = f"{where}/ran.{host}"
    looks = []
    with open(path, "w", encoding="ascii") as file:
        for _ in range(5):
            before = time.clock_gettime(time.CLOCK_BOOTTIME)
            os.utime(path)
            after = time.clock_gettime(time.CLOCK_BOOTTIME)
            looks.append((after - before, os.stat(path).st_mtime - (before + after) / 2))
        _, ahead = min(looks)
        if os.path.exists(RAN):
            with open(RAN, encoding="ascii") as said:
                file.writelines(f"{float(up) + ahead} {run}\n" for up, run in map(str.split, said))


def look_at(where: str, check: str = "") -> None:
    """Everything that is wrong, after all has ended; ids that were acknowledged come on stdin.

    `check`: "fsck", where nobody serves any more.
    """
    ids = sys.stdin.read().split()
    disk = RealDisk(f"{where}/q")
    places: defaultdict[str, list[Any]] = defaultdict(list)
    for path, entry in look.entries(disk, layout.STATES):
        places[entry.id].append((path, entry))
    told = Counter[str]()
    for parent in disk.names(layout.OUTBOX):
        for name in disk.names(f"{layout.OUTBOX}/{parent}"):
            event = parse_event(name)
            if event is not None and event[3] in TERMINAL:
                told[event[1]] += 1
    runs: defaultdict[str, dict[tuple[int, str], Times]] = defaultdict(dict)
    for name in os.listdir(f"{where}/w"):
        task, attempt, node, what = name.split(".")
        found = runs[task].setdefault((int(attempt), node), {})
        found[what] = os.stat(f"{where}/w/{name}").st_mtime
    for path in glob(f"{where}/ran.*"):
        with open(path, encoding="ascii") as file:
            for at, run in map(str.split, file):
                task, attempt, node = run.split(".")
                found = runs[task].setdefault((int(attempt), node), {})
                found.setdefault("ran", float(at))
                found["runs"] = float(at)
    found = _judge(ids, places, told, runs)
    for task, attempts in runs.items():
        _times(where, disk, task, attempts, found)
    found["wrong"] += [str(one) for one in (fsck.check(disk) if check else ()) if one.grave]
    print(json.dumps({k: v[:20] if isinstance(v, list) else v for k, v in found.items()}))


def _judge(ids: list[str], places: Any, told: Counter[str], runs: Any) -> dict[str, Any]:
    """Figures, and `wrong`: what breaks a promise."""
    wrong: list[str] = []
    again = 0
    for task in ids:
        found = places.get(task, [])
        states = [path.split("/")[0] for path, _ in found]
        if len(found) != 1 or states[0] not in TERMINAL:
            wrong.append(f"{task} stands in {[path for path, _ in found]}")
            continue
        entry = found[0][1]
        if told[task] != 1:
            wrong.append(f"{task} has ended and was told {told[task]} times")
        attempts = sorted(runs.get(task, {}))
        if not attempts and states[0] == "done":
            wrong.append(f"{task} is done and never ran")
        if len({attempt for attempt, _ in attempts}) != len(attempts):
            wrong.append(f"{task}: one attempt ran on two nodes: {attempts}")
        if len(attempts) > 1 + entry.lost + entry.fails + entry.interrupted:
            wrong.append(f"{task} ran {len(attempts)} times, its name explains {entry.lost}: {attempts}")
        again += len(attempts) > 1
    strangers = len(places) - len(set(ids) & set(places))
    figures = {"tasks": len(ids), "again": again, "overlap": 0, "unacknowledged": strangers}
    return {**figures, "wrong": wrong, "overlaps": [], "outran": [], "late": []}


def _times(
    where: str, disk: RealDisk, task: str, attempts: dict[tuple[int, str], Times], found: Any
) -> None:
    """When its attempts ran, all by the clock of the file server, and when each was settled for good.

    `overlaps`: "NODE ..." where the one before ran on, all of them with a loss on record before the second
    began; `outran` where a run went on after its attempt was settled, `late` where a file of it came then.
    """
    ordered = sorted(attempts.items())
    for number, ((attempt, node), run) in enumerate(ordered):
        path = layout.record(task, attempt)
        try:
            settled = os.stat(f"{where}/q/{path}").st_mtime
        except FileNotFoundError:
            found["wrong"].append(f"{task}: no record of attempt {attempt} on {node}")
            continue
        for what, limit in (("b", 0.0), ("e", LINGER)):
            if run.get(what, 0) > settled + TICK + limit:
                found["late"].append(
                    f"{node} {task}.{attempt} {what} {run[what] - settled:.2f} s after the end"
                )
        if run.get("runs", 0) > settled + TICK + LINGER:
            found["outran"].append(f"{node} {task}.{attempt} {run['runs'] - settled:.2f} s after the end")
        for (_, other), after in ordered[number + 1 : number + 2]:
            lost = look.record(disk, task, attempt)["outcome"] == "lost"
            began = after.get("ran", after.get("b", after.get("e", 0)))
            ended = run.get("runs", run.get("e", 0))
            if began + TICK < settled:
                found["wrong"].append(
                    f"{task} began on {other} before attempt {attempt} on {node} was settled"
                )
            if ended > began + TICK:
                found["overlap"] += 1
                found["overlaps"].append(
                    f"{node} {task}.{attempt} by {ended - began:.2f} s, lost: {lost}"
                )
                if not lost:
                    found["wrong"].append(
                        f"{task} began on {other} while it ran on {node}, and no loss is on record"
                    )


if __name__ == "__main__":
    VERBS = {"submit": submit, "plain": plain, "second": second, "promises": promises, "ran": ran}
    {**VERBS, "look": look_at, "calls": calls, "spans": spans}[sys.argv[1]](*sys.argv[2:])
