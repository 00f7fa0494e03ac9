"""Real daemons under work of every kind, while something of theirs is killed again and again.

`python -m tests.crash.chaos --seconds N [--seed S] [--nodes N] [--lease SECONDS]`, on the disk of --dir.
Afterwards each task that was acknowledged stands in one place and has ended, each attempt ran at most
once and has one record, and each record was told to a parent once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from spool import Spool, fsck, layout, look
from spool.disk import RealDisk
from spool.errors import SpoolError
from spool.init import init
from tests.e2e.live import ROOT, handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDS = ("done", "failed", "cancelled", "retrying")
NAMES = ("run", "run", "run", "bad", "ask", "py.quick", "py.quick", "py.quick", "py.slow", "py.die")
SHELL = 'echo "$SPOOL_ID $SPOOL_ATTEMPT" >> $NOTES/runs; '
PYTHON = """
import asyncio, os
from spool import current, task
def note():
    with open(os.environ["NOTES"] + "/runs", "a") as file:
        file.write(f"{current().id} {current().attempt}\\n")
@task("py.quick", retries=2, backoff=0)
def quick(fail: bool = False) -> None:
    note()
    if fail:
        raise ValueError("as it was told")
@task("py.slow", retries=2, backoff=0)
async def slow() -> None:
    note()
    await asyncio.sleep(0.05)
@task("py.die", retries=1, backoff=0)
def die() -> None:
    note()
    os._exit(3)
"""
OURS = {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
STOPPING = 100.0  # seconds that a stop may take, which waits for the disk, where others write too
IMPATIENT = (
    "import sys; from spoold.sources import housemates; housemates.PATIENCE = 500_000; "
    "from spoold.daemon import main; sys.exit(main())"
)
STILL = 30.0  # seconds in which nothing ends any more, when all that is left is stuck


class Chaos:
    """A spool, its daemons, those that use it, and what was promised to them."""

    def __init__(self, place: Path, seed: int, nodes: int, lease: int = 0) -> None:
        self.root, self.notes = place / "spool", place / "notes"
        self.rng = random.Random(seed)
        self.acknowledged: set[str] = set()
        self.told: Counter[tuple[str, int | None, str]] = Counter()
        self.killed: Counter[str] = Counter()
        self.quiet, self.over = threading.Event(), threading.Event()
        self.daemons: dict[str, subprocess.Popen[bytes]] = dict.fromkeys(f"n{i}" for i in range(nodes))  # type: ignore[arg-type]
        self.errors = place / "spoold.err"
        self.found: list[str] = []  # that is wrong
        self.lease = lease
        self.notes.mkdir()
        (place / "work.py").write_text(PYTHON)
        init(str(self.root))
        env = {"NOTES": str(self.notes), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        (self.root / layout.SETTINGS).write_text(
            f'durability = "{self.rng.choice(("durable", "relaxed"))}"\n'
            "backoff = 0\noutbox_limit = 1000000\nadmission.enabled = false\n"
            f'drain_grace = "10s"\ngrace = "2s"\nlease = "{lease}s"\n'
            + handler("run", SHELL + "sleep 0.03", env=env, retries=2)
            + handler("bad", SHELL + "exit 1", env=env, retries=1)
            + handler("ask", notify="shop", timeout="4s", retries=3)
            + handler("py.*", python="work", cwd=str(place), env=env)
        )

    # Those that use it.

    def submit(self, number: int) -> None:
        """A program that drops tasks, some of them twice, and asks things of others."""
        rng = random.Random(f"{self.rng.random()} {number}")
        with Spool(self.root) as spool:
            while not self.quiet.is_set():
                docs = [self._task(rng) for _ in range(rng.choice((1, 1, 1, 2, 8)))]
                docs = [*{doc.get("key", n): doc for n, doc in enumerate(docs)}.values()]  # none twice
                if len(docs) == 1:
                    ids = [spool.submit_one(docs[0])]
                    if docs[0].keys() <= {"task", "args"} and rng.random() < 0.3:
                        spool.submit_one({**docs[0], "id": ids[0]})
                else:
                    ids = spool.submit_many(docs)
                self.acknowledged |= {str(i) for i in ids}
                if rng.random() < 0.2:
                    with contextlib.suppress(SpoolError):
                        self._ask(spool, rng)
                time.sleep(rng.random() / 4)

    def _ask(self, spool: Spool, rng: random.Random) -> None:
        """Something of a task, or of many."""
        task_id = rng.choice(sorted(self.acknowledged))
        verb = rng.choice(("cancel", "retry", "hold", "release", "move", "replay", "match", "pause"))
        if verb == "move":
            spool.move(task_id, priority=rng.choice(("high", "low")), at=rng.choice((None, "+1s")))
        elif verb == "match":
            spool.act({"action": rng.choice(("hold", "release")), "match": {"task": rng.choice(NAMES)}})
        elif verb == "pause":
            spool.pause(task=rng.choice(NAMES), until="+1s")
        elif verb == "replay":
            spool.act({"action": "replay", "ids": [task_id]})
        else:
            getattr(spool, verb)(task_id)

    def _task(self, rng: random.Random) -> dict[str, Any]:
        doc: dict[str, Any] = {"task": rng.choice(NAMES)}
        if doc["task"] == "py.quick":
            doc["args"] = {"fail": rng.random() < 0.2}
        for name, value in (("at", "+1s"), ("deadline", "+3s"), ("priority", "high"), ("key", None)):
            if rng.random() < 0.1:
                doc[name] = value or f"k{rng.randrange(5)}"
        if "key" in doc:
            doc["on_duplicate"] = rng.choice(("keep", "replace", "reject", "extend"))
            doc["key_for"] = rng.choice(("1s", "1m"))
        if self.acknowledged and rng.random() < 0.1:
            doc["after"] = [rng.choice(sorted(self.acknowledged))]
            doc["on_failure"] = rng.choice(("run", "cancel", "only"))
        return doc

    def listen(self, parent: str) -> None:
        """A parent that notes what it is told, and acknowledges most of what is ready."""
        with Spool(self.root) as spool:
            while not self.over.is_set():
                for event in spool.outbox(parent, timeout=1):
                    self.told[event.id, event.attempt, event.event] += 1
                    if event.event == "ready" and self.rng.random() < 0.9:
                        spool.ack(event.id, event.attempt or 0)

    # Daemons, and their deaths.

    def serve(self) -> None:
        """Whatever ended is started again; where others serve, maybe later than they have patience."""
        again: dict[str, float] = {}
        while not self.over.is_set():
            for node, process in self.daemons.items():
                if process is not None and process.poll() is None:
                    continue
                late = 0 if process is None or len(self.daemons) < 2 else self.rng.choice((0, 0, 3))
                if time.monotonic() >= again.setdefault(node, time.monotonic() + late):
                    del again[node]
                    words = [sys.executable, "-c", IMPATIENT, "--spool", str(self.root), "--node", node]
                    with self.errors.open("ab") as errors:
                        self.daemons[node] = subprocess.Popen(
                            words, stderr=errors, cwd="/", env={**os.environ, **OURS}
                        )
            time.sleep(0.02)

    def kill(self) -> None:
        """Something of a daemon: itself, what is below it, or all."""
        chosen = self.rng.choice([*self.daemons.values()])
        kinds = ["spoold", "spoold", "TERM", "HUP", "keeper", "below", "below", "all"]
        what = self.rng.choice(kinds + ["freeze"] * (3 if self.lease else 0))
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):  # ended, and about to start again
            process = psutil.Process(chosen.pid)
            below = process.children(recursive=what != "keeper")
            if what == "freeze":
                self._freeze([process, *below])
            if what in ("TERM", "HUP"):
                process.send_signal(getattr(signal, f"SIG{what}"))
            for victim in (
                [process] if what == "spoold"
                else [process, *below] if what == "all"
                else [self.rng.choice(below)] if what in ("keeper", "below")
                else []
            ):  # fmt: skip
                victim.kill()
            self.killed[what] += 1

    def _freeze(self, all_of_it: list[psutil.Process]) -> None:
        """As a host that stands still for longer than its lease."""
        for one in all_of_it:
            one.suspend()
        time.sleep(self.lease * self.rng.choice((0.5, 1.5, 2.5)))
        for one in all_of_it:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()

    def run(self, seconds: float) -> None:
        """All of it for so long, then until everything has ended."""
        todo: list[Callable[[], None]] = [self.serve, lambda: self.submit(1), lambda: self.submit(2)]
        todo += [lambda: self.listen("default"), lambda: self.listen("shop")]
        pool = ThreadPoolExecutor(len(todo))
        threads = [pool.submit(work) for work in todo]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.rng.choice((0.1, 0.3, 1, 2.5)))
            self.kill()
        self.quiet.set()
        self._drain()
        self.found += [str(finding) for finding in fsck.check(RealDisk(str(self.root))) if finding.grave]
        self._drain(poison=True)
        time.sleep(1.5)  # what was told last is heard
        self.over.set()
        for thread in threads:
            thread.result()
        for process in self.daemons.values():
            process.terminate()
        for node, process in self.daemons.items():
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # it says where it is
                process.wait()
                status = (self.root / layout.status(node)).read_text()
                said = self.errors.read_text(errors="replace")[-5000:]
                self.found.append(f"{node} has not stopped: {status}\n{said}")

    def _drain(self, *, poison: bool = False) -> None:
        """Until all has ended but for poison and what waits for it, or that as well."""
        before, since = -1, time.monotonic()
        with Spool(self.root) as spool:
            while left := [*self._left(poison=poison)]:
                for entry in (look.entry_at(path) for path in left if path.startswith(layout.HELD)):
                    with contextlib.suppress(SpoolError):
                        if entry.why == "poison":
                            spool.cancel(entry.id)
                        elif entry.why != "after":
                            spool.release(entry.id)
                if len(left) != before:
                    before, since = len(left), time.monotonic()
                if time.monotonic() - since > STILL:
                    return  # `wrong` says what it is
                time.sleep(0.5)

    def _left(self, *, poison: bool = True) -> Iterator[str]:
        """What has not ended: poison stays held, and what waits for it."""
        for path, entry in look.entries(RealDisk(str(self.root)), layout.STATES):
            if path.split("/")[0] not in layout.ENDED and (
                poison or entry.why not in ("poison", "after")
            ):
                yield path
        for path in (self.root / layout.INCOMING).glob("*.json"):
            yield f"{layout.INCOMING}/{path.name}"

    # What must be true.

    def wrong(self) -> list[str]:
        """Every promise that was broken, in words."""
        disk = RealDisk(str(self.root))
        found = self.found + [str(finding) for finding in fsck.check(disk) if finding.grave]
        found += [f"{path} has not ended" for path in self._left()]
        places: defaultdict[str, list[str]] = defaultdict(list)
        for path, entry in look.entries(disk, layout.STATES):
            places[entry.id].append(path)
        for task_id in self.acknowledged - set(self._refused()):
            if len(places[task_id]) != 1:
                found.append(f"{task_id} was acknowledged and is at {places[task_id]}")
        records = {}
        for path in (self.root / layout.ATTEMPTS).glob("*/*.json"):
            record = json.loads(path.read_bytes())
            records[record["id"], record["attempt"]] = record
        runs = Counter(tuple(line.split()) for line in (self.notes / "runs").read_text().splitlines())
        for (task_id, attempt), count in runs.items():
            if count > 1 or (task_id, int(attempt)) not in records:
                found.append(f"attempt {attempt} of {task_id} ran {count} times")
        for (task_id, attempt), record in records.items():
            if (count := self.told[task_id, attempt, record["event"]]) != 1:
                found.append(
                    f"{record['event']} of attempt {attempt} of {task_id} was told {count} times"
                )
        for task_id, attempt, event in self.told:
            if event in ENDS and (task_id, attempt) not in records:
                found.append(f"{event} of attempt {attempt} of {task_id} was told and is not on record")
        said = self.errors.read_text(errors="replace")
        return found + ([said[said.index("Traceback") :]] if "Traceback" in said else [])

    def _refused(self) -> Iterator[str]:
        for path in (self.root / layout.REJECTED).glob("*/*.json"):
            doc = json.loads(path.read_bytes())
            if not path.name.endswith(".reason.json") and "action" not in doc:
                yield from (task["id"] for task in doc.get("tasks", [doc]))


def main(argv: list[str] | None = None) -> int:
    """Prints what was done, and every promise that was broken."""
    found = argparse.ArgumentParser(prog="chaos", description=__doc__)
    found.add_argument("--seconds", type=float, default=60)
    found.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    found.add_argument("--nodes", type=int, default=1)
    found.add_argument("--lease", type=int, default=0, help="seconds; nodes are frozen as well then")
    found.add_argument("--dir", default="/var/tmp")
    args = found.parse_args(argv)
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="spool-chaos-") as place:
        chaos = Chaos(Path(place), args.seed, args.nodes, args.lease)
        chaos.run(args.seconds)
        wrong = chaos.wrong()
        print(f"{len(chaos.acknowledged)} tasks, killed: {dict(chaos.killed)}; {len(wrong)} wrong")
        print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
