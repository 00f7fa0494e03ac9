"""See a spool at work: a daemon, handlers, a parent, and a kill -9 in the middle that loses nothing.

    python tools/demo.py

Makes ./demo-spool anew and leaves it to look at. Ends by itself, with 1 if anything went otherwise
than it should.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT))

from demo_check import Failed, check, check_course, commands  # noqa: E402 - found beside this file
from demo_tell import NODE, Journal, Teller, paint  # noqa: E402 - found beside this file

from spool import Spool, SpoolError  # noqa: E402 - found by the line above
from spool.init import init  # noqa: E402

PLACE = Path("demo-spool")
OUT = PLACE / "out"
PATIENCE = 30.0  # seconds without anything until it gives up; all of it takes six
PACKS = 12
PAUSE = 0.5  # seconds of each pack
KILL_AFTER = 3  # packs
CHECKSUMS = ("README.md", "LICENSE", "Makefile", "pyproject.toml")
URGENT = "spool/__init__.py"

TOML = """\
concurrency = 2                    # so few that there is a queue to see
admission.enabled = false          # and whatever else this machine does
[handlers."sum.*"]                 # programs do the work; args arrive as JSON on stdin
exec = [{python}, {work}, "checksum"]
cwd = {root}
[handlers."pack.*"]
exec = [{python}, {work}, "pack"]
cwd = {root}
env = {{ OUT = {out} }}
[handlers."fetch.*"]
exec = [{python}, {work}, "flaky"]
backoff = {{ base = "1s", factor = 1 }}
[handlers."report.*"]
exec = [{python}, {work}, "report"]
env = {{ OUT = {out} }}
[handlers."order.*"]               # a parent does the work: it reads outbox/shop/
notify = "shop"
timeout = "30s"
"""


def fresh() -> Spool:
    """A spool with our handlers; one of an earlier run goes first, anything else stays."""
    if PLACE.exists():
        if not (PLACE / "format").is_file():
            raise Failed(f"./{PLACE} is there and is no spool: move it away")
        shutil.rmtree(PLACE)
    init(str(PLACE))
    OUT.mkdir()
    words = {"python": sys.executable, "work": str(ROOT / "tools/demo_work.py"), "root": str(ROOT)}
    words["out"] = str(OUT.resolve())
    (PLACE / "spool.toml").write_text(TOML.format(**{k: json.dumps(v) for k, v in words.items()}))
    return Spool(PLACE)


class Daemon:
    """spoold on our spool, that can die."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.says = (OUT / "spoold.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it serves."""
        begun = time.monotonic()
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spoold", "--spool", str(PLACE), "--node", NODE],
            stdin=subprocess.DEVNULL, stdout=self.says, stderr=self.says,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        while self.process.pid not in [n.get("pid") for n in self.spool.status()["nodes"].values()]:
            if self.process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise Failed(f"spoold does not serve: see {self.says.name}")
            time.sleep(0.01)
        return time.monotonic() - begun

    def end(self, number: int) -> int:
        """End it with a signal; returns its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def stop(self) -> None:
        """End it in order."""
        if self.end(signal.SIGTERM):
            raise Failed(f"spoold did not end in order: see {self.says.name}")


class Shop(threading.Thread):
    """A parent: it is told of its orders by files in outbox/shop/ and answers with actions."""

    def __init__(self, teller: Teller, orders: int) -> None:
        super().__init__(daemon=True)
        self.teller = teller
        self.orders = orders

    def run(self) -> None:
        """What any program that uses the library would do."""
        spool = Spool(PLACE)
        for event in spool.outbox("shop"):  # each is acknowledged when the next is asked for
            self.teller.event(event)
            if event.event == "ready":
                spool.ack(event.id, event.attempt or 0, {"parcel": f"IT-{event.args['order']}"})
            self.orders -= event.event == "done"
            if not self.orders:
                return


class Demo:
    """The course of it."""

    def __init__(self, spool: Spool, daemon: Daemon, teller: Teller) -> None:
        self.spool = spool
        self.daemon = daemon
        self.say = teller.line
        self.teller = teller
        self.files: dict[str, str] = {}  # id -> file
        self.kinds: dict[str, str] = {}  # id -> task
        self.fetch = self.lifted = ""
        self.shop = Shop(teller, 2)

    def run(self) -> None:
        """All of it, until every task has ended."""
        self.say("spoold", "", f"serves ./{PLACE} after {self.daemon.start():.2f} s")
        self.submit()
        Journal(self.teller).start()
        self.shop.start()
        ours, packs = {i for i, task in self.kinds.items() if task != "order.ship"}, 0
        for event in self.spool.outbox(timeout=PATIENCE):
            self.teller.event(event)
            if event.event in ("done", "failed", "cancelled"):
                ours.discard(event.id)
            packs += event.task == "pack.file" and event.event == "done"
            if packs == KILL_AFTER and URGENT not in self.files.values():
                ours |= self.disaster()
            if not ours:
                break
        self.shop.join(PATIENCE)

    def submit(self) -> None:
        """Everything through the library; it needs no daemon."""
        add, hold = self.spool.submit, self.note
        files = [{"task": "sum.file", "args": {"file": f}, "priority": "high"} for f in CHECKSUMS]
        for task_id, file in zip(self.spool.submit_many(files), CHECKSUMS, strict=True):
            hold(task_id, "sum.file", file)
        self.say("submit", "sum.file", f"{len(files)} files, high, in one batch")
        fetch = add("fetch.page", {"failures": 2}, priority="high")
        self.fetch = hold(fetch, "fetch.page")
        self.say("submit", "fetch.page", "high; its first two attempts will fail")
        for file in pick():
            hold(add("pack.file", {"file": file, "pause": PAUSE}), "pack.file", file)
        self.say("submit", "pack.file", f"{PACKS} files, medium, {PAUSE} s each, two at a time")
        report = add("report.day", {"of": PACKS}, priority="low", deadline="+20s", lead="18s")
        self.lifted = hold(report, "report.day")
        self.say("submit", "report.day", "low, due in 20 s; 18 s before that it is high")
        for number, at in ((17, None), (18, "+1s")):
            hold(add("order.ship", {"order": number}, at=at), "order.ship")
            self.say("submit", "order.ship", f"order {number}{', in 1 s' if at else ''}: for the shop")

    def note(self, task_id: str, task: str, file: str = "") -> str:
        """Remember what was submitted."""
        self.kinds[task_id] = task
        if file:
            self.files[task_id] = file
        self.teller.names[task_id] = Path(file).name
        return task_id

    def disaster(self) -> set[str]:
        """Kill -9 while tasks run, one more task while nobody serves, a new daemon."""
        end = time.monotonic() + PATIENCE
        while len(list(self.spool.list("running", "pack.file"))) < 2:  # one has just begun
            if time.monotonic() > end:
                raise Failed("two tasks never ran at once")
            time.sleep(0.01)
        self.daemon.end(signal.SIGKILL)
        self.say("kill -9", "", "spoold is dead; two tasks were running")
        urgent = self.spool.submit("sum.file", {"file": URGENT}, priority="high")
        self.note(urgent, "sum.file", URGENT)
        self.say("submit", "sum.file", f"{Path(URGENT).name}, high; it waits in incoming/")
        time.sleep(0.5)  # to be seen
        self.say("spoold", "", "a new one starts")
        self.daemon.start()
        return {urgent}


def pick() -> list[str]:
    """Files of this repository to pack."""
    found = sorted((ROOT / "spool").glob("*.py"), key=lambda path: -path.stat().st_size)
    return [str(path.relative_to(ROOT)) for path in found[:PACKS]]


def main() -> int:
    """The demonstration; 1 where it did not go as it should."""
    teller = Teller(PLACE)
    daemon = None
    try:
        spool = fresh()
        daemon = Daemon(spool)
        demo = Demo(spool, daemon, teller)
        demo.run()
        daemon.stop()
        check(spool, demo.kinds, demo.files, OUT)
        outcomes = [attempt["outcome"] for attempt in spool.get(demo.fetch).attempts]
        lost = check_course(outcomes, teller.seen, demo.lifted)
    except (Failed, SpoolError, OSError) as problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if daemon is not None:
            daemon.end(signal.SIGKILL)
    teller.line("ok", "", f"all {len(demo.kinds)} tasks done, {lost} of them begun twice")
    print("\nThe spool is yours to look at:")
    for command in commands(PLACE, demo.fetch):
        print(f"  {paint(command, 'command')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
