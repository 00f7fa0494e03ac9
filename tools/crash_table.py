"""Print the crash table of spool(5): every gap between two steps on disk, tried with the real core.

Each sequence runs once to be written down, then again for every step with the daemon dying after
it. A fresh core starts on what is left, with the same start-up code as spoold, and starts no
handler. What the table says is what was found on disk; nothing in it is written by hand.

    python tools/crash_table.py         the table, as the manual has it; tools/manual.py puts it there
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import orjson  # noqa: E402

from spool import look, settingsfile  # noqa: E402
from spool.disk import Disk, RealDisk  # noqa: E402
from spool.init import init  # noqa: E402
from spool.names import parse_event  # noqa: E402
from spoold.core.state import State  # noqa: E402
from spoold.core.values import Exited, Now, Tick  # noqa: E402
from spoold.effects.outboxes import OutboxLimits  # noqa: E402
from spoold.effects.store import Store  # noqa: E402
from spoold.loop import Core  # noqa: E402
from spoold.recovery import recover  # noqa: E402
from spoold.sources.backlog import Backlog  # noqa: E402
from spoold.sources.intake import Intake  # noqa: E402

NODE = "NODE"
WIDTH = 25  # of a step
WRITES = ("write", "append", "move", "link", "remove", "sync", "sync_dirs")
TOML = """
admission.enabled = false
[handlers."work.*"]
exec = ["/bin/true"]
[handlers."order.*"]
notify = "shop"
"""


class Crash(BaseException):
    """The daemon dies here."""


class Brittle:
    """A disk that writes down every step that changes something, and dies after the one it is told."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk
        self.steps: list[tuple[str, str]] = []
        self.last: int | None = None  # die after so many steps

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.disk, name)
        if name not in WRITES:
            return verb

        def told(*args: Any, **more: Any) -> Any:
            if self.last is not None and len(self.steps) >= self.last:
                raise Crash
            done = verb(*args, **more)
            self.steps.append((name, _shape(name, args)))
            return done

        return told


def _shape(verb: str, args: tuple[Any, ...]) -> str:
    """What a step is about, with the names that are different every time taken out."""
    if verb == "sync":
        return "files"
    if verb == "sync_dirs":
        return "directories"
    path = args[0] if verb in ("write", "append", "remove") else args[1]
    parts = path.split("/")
    top, name = parts[0], parts[-1]
    if top == "running" and name.startswith("."):
        if name.endswith((".task", ".key")):
            return f"running/.ID.{name.rpartition('.')[2]}"
        told = parse_event(name[1:].partition(",")[2])
        return f"running/.{told[3] if told else name[1:].partition('.')[0]}"
    if name.endswith(".reason.json"):
        return f"{top}/REASON"
    if top == "outbox":
        return f"outbox/{name.rsplit(',', 1)[1].removesuffix('.json')}"
    return {
        "ids": "ids/ID",
        "keys": "keys/HASH",
        "attempts": "attempts/ID.N",
        "journal": "journal/",
        "incoming": "incoming/NAME",
        "rejected": "rejected/NAME",
        "nodes": "nodes/pauses.json",
    }.get(top, f"{top}/ENTRY")


@dataclass
class Daemon:
    """A core with its effects on a disk, without processes: handlers are noted, never run."""

    disk: Any
    begun: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = settingsfile.read(self.disk)
        self.state = State(NODE, found, 1)
        self.store = Store(self.disk, NODE, durable=True)
        self.disk.make_dir(self.store.stage_dir)
        self.mono = 0
        self.backlog = Backlog(self.disk, lambda: False)
        self.intake = Intake(self.disk, found, ZoneInfo("UTC"))
        parts = (self.state, self.disk, self.store, self, self.backlog)
        self.core = Core(*parts, OutboxLimits(self.disk, self.state), None)

    def start(self, start: Any) -> None:
        """Instead of a process."""
        self.begun.append(start.entry)

    def kill(self, kill: Any) -> None:
        """Nothing runs."""

    def flush(self) -> None:
        """Nothing waits."""

    def now(self) -> Now:
        """Real time, because what is dropped has a real time too."""
        self.mono += 1000
        return Now(time.time_ns() // 1000, self.mono)

    def settle(self, *events: Any) -> None:
        """Round after round until there is nothing left to do."""
        waiting = list(events) or [Tick()]
        while waiting:
            self.core.round(waiting, self.now())
            waiting = list(self.intake.look(self.now())) if self.intake.busy else []
            waiting += self.backlog.step()
            if self.core.again or self.core.more:
                waiting.append(Tick())

    def drop(self, *actions: dict[str, Any]) -> None:
        """Actions come in and are dealt with."""
        for action in actions:
            _drop(self.disk.disk, action)
        self.intake.ring()
        self.settle()

    def exit(self, code: int) -> None:
        """The handler that was begun last ends."""
        entry = self.begun[-1]
        facts: dict[str, Any] = {"signal": None, "seconds": 0.1, "rss": 0, "cpu": 0.0, "logged": 0}
        self.settle(Exited(id=entry.id, attempt=entry.attempt, exit=code, tail="", **facts))


def _drop(disk: RealDisk, action: dict[str, Any]) -> None:
    name = f"{time.time_ns()}.json"
    disk.write(f"tmp/{name}", orjson.dumps(action))
    disk.move(f"tmp/{name}", f"incoming/{name}")


@dataclass(frozen=True)
class Sequence:
    """A sequence of steps: its title, what comes before it, what sets it off."""

    title: str
    before: Callable[[Daemon], None]
    go: Callable[[Daemon], None]


LATER = "+2h"


def _id_of(daemon: Daemon) -> str:
    ((_, entry),) = list(look.entries(daemon.disk.disk, ("pending", "held", "running")))
    return str(entry.id)


def _verb(kind: str, **more: Any) -> Callable[[Daemon], None]:
    return lambda d: d.drop({"action": kind, "ids": [_id_of(d)], **more})


def _submitted(**fields: Any) -> Callable[[Daemon], None]:
    return lambda d: d.drop({"task": "work.one", **fields})


def _paused(daemon: Daemon) -> None:
    """A ready task that may not start yet."""
    daemon.state.stopping = True
    daemon.drop({"task": "work.one"})
    daemon.state.stopping = False


def _ordered(daemon: Daemon) -> None:
    daemon.drop({"task": "order.ship"})


def _acked(daemon: Daemon) -> None:
    daemon.drop({"action": "ack", "id": _id_of(daemon), "attempt": 1, "result": 1})


def _cancelled(daemon: Daemon) -> None:
    _verb("cancel")(daemon)
    daemon.exit(143)


def _restart(daemon: Daemon) -> None:
    """The start-up after a crash, which can be cut off itself."""
    again = Daemon(daemon.disk)
    again.state.stopping = True
    again.settle(*recover(again.disk, again.store, again.state.settings))


def _batch(daemon: Daemon) -> None:
    daemon.drop({"tasks": [{"task": "work.one", "at": LATER}, {"task": "work.two", "at": LATER}]})


def _nothing(_daemon: Daemon) -> None:
    pass


SEQUENCES = (
    Sequence("Take in, for later", _nothing, _submitted(at=LATER)),
    Sequence("Take in and claim, a process", _nothing, _submitted()),
    Sequence("Take in a batch of two", _nothing, _batch),
    Sequence("Claim, a process", _paused, Daemon.settle),
    Sequence("Take in and claim, a parent", _nothing, _ordered),
    Sequence("Finish, a process exits 0", _submitted(), lambda d: d.exit(0)),
    Sequence("Finish, a parent says ack", _ordered, _acked),
    Sequence("Retry, a process fails and an attempt is left", _submitted(), lambda d: d.exit(1)),
    Sequence("Reclaim, start-up finds a task in running", _submitted(), _restart),
    Sequence("Hold", _submitted(at=LATER), _verb("hold")),
    Sequence("Cancel a task that waits", _submitted(at=LATER), _verb("cancel")),
    Sequence("Cancel a process", _submitted(), _cancelled),
    Sequence("Take in with a key", _nothing, _submitted(at=LATER, key="k")),
    Sequence("Take in a duplicate", _submitted(at=LATER, key="k"), _submitted(key="k")),
    Sequence("Pause", _nothing, lambda d: d.drop({"action": "pause"})),
    Sequence("Refuse", _nothing, _submitted(pirority="high")),
)


def _tree(disk: Disk) -> set[str]:
    """What a sequence leaves: places that hold something, in the words of the table."""
    found: set[str] = set()
    for folder, word in (("incoming", "action"), (f"running/{NODE}", ""), ("attempts", "record")):
        for name in _walk(disk, folder):
            if not name.startswith("."):
                found.add(word or "running")
            elif name.endswith(".task"):
                found.add("copy")
            elif name.endswith(".key"):
                found.add("claim")
            elif parse_event(name.partition(",")[2]):
                found.add("event")
    for folder, word in (("ids", "id"), ("keys", "key"), ("outbox", "told"), ("rejected", "rejected")):
        if _walk(disk, folder):
            found.add(word)
    for state in ("pending", "held", "done", "failed", "cancelled"):
        if _walk(disk, state):
            found.add(state)
    if disk.info("nodes/pauses.json"):
        found.add("paused")
    return found


ORDER = (
    "action", "claim", "key", "copy", "id", "pending", "held", "running", "done", "failed", "cancelled",
    "paused", "record", "event", "told", "rejected",
)  # fmt: skip


def _walk(disk: Disk, path: str) -> list[str]:
    with suppress(FileNotFoundError):
        found: list[str] = []
        for name in disk.names(path):
            info = disk.info(f"{path}/{name}")
            found += _walk(disk, f"{path}/{name}") if info and info.mode & 0o040000 else [name]
        return found
    return []


def _ended(disk: RealDisk, already: set[str]) -> str:
    """In words: where the tasks are after start-up, and which events are there since the beginning."""
    states: dict[str, int] = {}
    for path, entry in look.entries(disk, ("pending", "held", "running", "done", "failed", "cancelled")):
        lost = f" x={entry.lost}" if entry.lost else ""
        tried = f" n={entry.fails}" if entry.fails else ""
        key = path.split("/")[0] + tried + lost
        states[key] = states.get(key, 0) + 1
    where = [key if count == 1 else f"{count} {key}" for key, count in sorted(states.items())]
    told = sorted(
        event[3] for name in _walk(disk, "outbox") if name not in already and (event := parse_event(name))
    )
    if disk.info("nodes/pauses.json"):
        where.append("paused")
    if _walk(disk, "rejected"):
        where.append("refused")
    if _walk(disk, "incoming"):
        where.append("ACTION LEFT")
    if any(name.startswith(".") for name in _walk(disk, f"running/{NODE}")):
        where.append("LEFTOVER")
    return ", ".join(where) + (f"; told {', '.join(told)}" if told else "")


def _begin(sequence: Sequence, root: Path) -> tuple[Brittle, Daemon, set[str]]:
    init(str(root))
    (root / "spool.toml").write_text(TOML)
    brittle = Brittle(RealDisk(str(root)))
    daemon = Daemon(brittle)
    daemon.settle()
    sequence.before(daemon)
    brittle.steps.clear()
    return brittle, daemon, set(_walk(brittle.disk, "outbox"))


def _crashed(sequence: Sequence, last: int) -> tuple[str, str]:
    """What a crash after so many steps leaves, and what start-up makes of it."""
    with tempfile.TemporaryDirectory() as place:
        brittle, daemon, told = _begin(sequence, Path(place) / "spool")
        brittle.last = last
        with suppress(Crash):
            sequence.go(daemon)
        brittle.last = None
        left = _tree(brittle.disk)
        if told:
            left.discard("told")
            if set(_walk(brittle.disk, "outbox")) - told:
                left.add("told")
        again = Daemon(brittle)
        again.state.stopping = True
        again.settle(*recover(again.disk, again.store, again.state.settings))
        words = " ".join(word for word in ORDER if word in left)
        ended = _ended(brittle.disk, told)
        brittle.disk.close()
        return words, ended


def rows(sequence: Sequence) -> Iterator[tuple[str, str, str]]:
    """Step, what a crash after it leaves, what start-up makes of that; first the state before."""
    with tempfile.TemporaryDirectory() as place:
        brittle, daemon, _ = _begin(sequence, Path(place) / "spool")
        sequence.go(daemon)
        steps = list(brittle.steps)
        brittle.disk.close()
    yield ("(before)", *_crashed(sequence, 0))
    for number, (verb, what) in enumerate(steps, 1):
        yield (f"{verb.replace('_dirs', '')} {what}", *_crashed(sequence, number))


def table() -> str:
    """The whole table in mdoc."""
    out: list[str] = []
    for sequence in SEQUENCES:
        out += [f".Ss \\(bu {sequence.title}", ".Bd -literal -compact"]
        seen = ""
        for step, left, then in rows(sequence):
            if then != seen:
                out.append(f"start-up makes of it: {then}")
            out.append(f"  {step:<{WIDTH}} {left}")
            seen = then
        out.append(".Ed")
    return "\n".join(out) + "\n"


def main() -> int:
    print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
