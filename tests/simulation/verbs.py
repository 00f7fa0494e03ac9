"""What people asked of tasks has happened: read from the journal, where each line says who asked for it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout, look
from tests.simulation.watch import Broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.names import Entry
    from tests.simulation.invariants import Survey
    from tests.simulation.world import World

Line = dict[str, Any]
ALREADY = {"cancel": "cancelled", "hold": "held", "release": "pending", "retry": "pending"}
EVENTS = {"cancel": ("cancel", "kill")}  # the lines of a verb, where they are not called as it is
BEING_KILLED = ("cancel", "late", "kill")
SHOWS: dict[str, Callable[[Entry, Any], bool]] = {
    "priority": lambda entry, wanted: entry.prio == wanted,
    "position": lambda entry, wanted: entry.front == (wanted == "front"),
    "deadline": lambda entry, _: entry.deadline is not None and entry.lifted == 0,
}


def carried_out(world: World, found: Survey, lines: list[Line]) -> None:
    """Every verb that was taken and not refused has its effect, and it stood until the next transition."""
    if world.nodes > 1 or world.stepped or (world.cuts and not world.durable):
        return  # the order of the lines says nothing of what came first
    story: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if "entry" in line:
            story[line["id"]].append(line)
    refused = _refused(world)
    for mark, (doc, sure) in world.writers.verbs.items():
        if doc["action"] == "replay":
            continue  # it makes new tasks
        for task_id in () if mark in refused else doc["ids"]:
            own = story[task_id]
            last = max((n for n, line in enumerate(own) if _by(line) == mark), default=None)
            if last is not None:
                _stood(doc, own, last)
                _ended(found, doc, task_id, own[last:])
            elif (sure or not world.cuts) and not world.strangers:
                _known(doc, task_id, own)


def _by(line: Line) -> str | None:
    by = line.get("by")
    return by.get("why") if isinstance(by, dict) else None


def _refused(world: World) -> set[str]:
    """The marks of verbs that were refused, for one of their tasks at least."""
    marks: set[str] = set()
    for date in world.disk.names(layout.REJECTED):
        folder = f"{layout.REJECTED}/{date}"
        for name in world.disk.names(folder):
            try:
                marks.add(orjson.loads(world.disk.read(f"{folder}/{name}", 1 << 24)).get("why"))
            except (OSError, orjson.JSONDecodeError, AttributeError):
                continue
    return marks


def _stood(doc: dict[str, Any], own: list[Line], last: int) -> None:
    """The line says what was asked for, and what came next came from there."""
    line = own[last]
    kind = doc["action"]
    if line["event"] not in EVENTS.get(kind, (kind,)):
        raise Broken(f"asked for {doc}, the journal says {line}")
    if kind == "move":
        entry = look.entry_at(line["entry"])
        wrong = [name for name, shows in SHOWS.items() if name in doc and not shows(entry, doc[name])]
        if wrong:
            raise Broken(f"{wrong} of {doc} is not in {line['entry']}")
    after = next((n for n in own[last + 1 :] if n["entry"] != line["entry"]), None)
    if after is None:
        return
    if after["from"] != line["to"] or (line["event"] == "kill" and after["event"] not in BEING_KILLED):
        raise Broken(f"{kind} stood not until the next transition: {line}, then {after}")


def _ended(found: Survey, doc: dict[str, Any], task_id: str, rest: list[Line]) -> None:
    """What was cancelled is, unless somebody has asked for it again."""
    if doc["action"] != "cancel" or any(line["event"] == "retry" for line in rest):
        return
    for path, _ in found.places.get(task_id, []):
        if not path.startswith(layout.CANCELLED):
            raise Broken(f"{path} was cancelled: {rest[0]}")


def _known(doc: dict[str, Any], task_id: str, own: list[Line]) -> None:
    """No line and no refusal: then it was so already.

    What a start has put in its place has no line of its submission: the daemon died before it.
    """
    state = ALREADY.get(doc["action"])
    killed = doc["action"] == "cancel" and any(line["event"] == "kill" for line in own)
    if not killed and not any(state in (line["to"], line["from"]) for line in own):
        raise Broken(f"{doc} was taken and came to nothing for {task_id}: {own[-2:]}")
