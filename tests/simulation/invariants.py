"""The promises of a spool, checked on the disk of a simulated world: at rest, and at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from spool import fsck, keys, layout, look
from spool.disk import Missing
from spool.errors import Invalid
from spool.names import BadName, Entry, parse_event
from spool.owncopy import decode_task
from spool.place import mark_of
from spool.schedule import occurrence_id
from spool.times import parse_utc
from tests.simulation.verbs import carried_out
from tests.simulation.watch import Broken
from tests.simulation.world import PERIOD

if TYPE_CHECKING:
    from tests.simulation.actors import Wish
    from tests.simulation.world import World

LIMIT = 1 << 24
ENDS = {"done": "done", "failed": "failed", "cancelled": "cancelled"}


@dataclass(slots=True)
class Survey:
    """Everything that stands in a spool: entries, bodies and records by id, marks, journal."""

    places: dict[str, list[tuple[str, Entry]]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)  # mark: id
    records: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)  # id: of which time it is
    keys: dict[str, str] = field(default_factory=dict)  # id: key, of what is no duplicate


def survey(world: World) -> Survey:
    """Read it all."""
    found, disk = Survey(), world.disk
    for path, entry in look.entries(disk, layout.STATES):
        try:
            task = decode_task(disk.read(path, LIMIT))
        except (Invalid, OSError) as problem:
            if world.strangers or not world.durable:
                continue
            raise Broken(f"the body of {path} cannot be read: {problem}") from None
        found.places.setdefault(entry.id, []).append((path, entry))
        if task.id != entry.id:
            raise Broken(f"{path} holds the body of {task.id}")
        for name in task.files if task.replay_of is None else ():
            file = f"{layout.files(entry.id)}/{name}"
            if disk.info(file) is None or disk.read(file, LIMIT) != f"{entry.id} {name}".encode():
                raise Broken(f"{path} is there, and its file {name} is not")
        if task.recurring is not None:
            found.recurring[entry.id] = task.recurring
        if task.key is not None and task.duplicate_of is None:
            found.keys[entry.id] = task.key
        if isinstance(task.args, dict) and "mark" in task.args:
            known = found.marks.setdefault(task.args["mark"], entry.id)
            wish = world.writers.wishes.get(task.args["mark"])
            if wish is not None and wish.id is None and known != entry.id and not world.cuts:
                raise Broken(f"{wish.mark} was taken in as {known} and as {entry.id}")
            if wish is not None and (task.task, task.args) != (wish.doc["task"], wish.doc["args"]):
                raise Broken(f"{path} is not what was submitted: {wish.doc}")
    for date in disk.names(layout.ATTEMPTS):
        for name in disk.names(f"{layout.ATTEMPTS}/{date}"):
            _read_record(world, found, f"{layout.ATTEMPTS}/{date}/{name}")
    return found


def _read_record(world: World, found: Survey, path: str) -> None:
    try:
        record = orjson.loads(world.disk.read(path, LIMIT))
        found.records.setdefault(record["id"], {})[record["attempt"]] = record
    except (orjson.JSONDecodeError, KeyError, OSError) as problem:
        if world.durable:
            raise Broken(f"the record {path} cannot be read: {problem}") from None


def at_rest(world: World) -> Survey:
    """What holds whenever no daemon is in the middle of something: between turns, or when it died."""
    found = survey(world)
    relaxed = not world.durable and world.cuts  # the power failed and nothing had been synced
    for task_id, places in found.places.items():
        if len(places) > 1:
            raise Broken(f"{task_id} is in {len(places)} places: {[p for p, _ in places]}")
    if not relaxed and not world.strangers:
        _keys(world, found)
    for wish in () if relaxed else world.writers.wishes.values():
        if wish.sure and not wish.taken_back:
            _kept(world, found, wish)
    return found


def _recurring(world: World, found: Survey) -> None:
    """Each time of the schedule has one task; since the first that has one none is left out."""
    made = {}
    for task_id, told in found.recurring.items():
        at = made[task_id] = parse_utc(told["scheduled_at"])
        if at % PERIOD or task_id != occurrence_id("tick", at):
            raise Broken(f"{task_id} is of {told['scheduled_at']}, which is no time of the schedule")
    if world.stepped or not world.durable or world.strangers:
        return
    times = set(made.values())
    wanted = range(min(times, default=world.drained), world.drained, PERIOD)
    if missing := sorted(set(wanted) - times):
        raise Broken(f"{len(missing)} times of {len(wanted)} have no task: {missing[:3]}")


def _keys(world: World, found: Survey) -> None:
    """At most one unfinished task has a key, and the key's file says so."""
    holders: dict[str, str] = {}
    for task_id, key in found.keys.items():
        path, entry = found.places[task_id][0]
        state = path.split("/")[0]
        if state in layout.ENDED or (state == layout.RUNNING and entry.why == "cancelled"):
            continue
        if known := holders.get(key):
            raise Broken(f"{known} and {path} are unfinished, both with the key {key}")
        holders[key] = path
        claim = keys.read(world.disk, layout.key(mark_of(key)))
        record = found.records.get(task_id, {}).get(entry.attempt)
        ended = record is not None and record["event"] in ENDS  # what is left is to move it
        if (claim is None or claim.id != task_id) and not ended:
            raise Broken(f"{path} has the key {key}, and its file says {claim}")


def _kept(world: World, found: Survey, wish: Wish) -> None:
    """What was acknowledged stands in incoming/, or somewhere as a task, or is refused with reason."""
    if wish.mark in found.marks:
        return
    disk, name = world.disk, wish.path.rpartition("/")[2]
    for other in disk.names(layout.INCOMING):
        if layout.dropped_as(other) == name and disk._file(f"{layout.INCOMING}/{other}").key == wish.key:
            return
    if (wish.rival or wish.spoilt or wish.picky) and _refused(world, wish.path):
        return
    if wish.spoilt or (world.strangers and _in_corrupt(world, wish)):
        return
    raise Broken(f"{wish.mark} ({wish.id}, {wish.path}) was submitted, and is lost")


def _refused(world: World, path: str) -> bool:
    name = path.rpartition("/")[2]
    disk = world.disk
    for date in disk.names(layout.REJECTED):
        folder = f"{layout.REJECTED}/{date}"
        if disk.info(f"{folder}/{name}") is not None:
            return True
    return False


def _in_corrupt(world: World, wish: Wish) -> bool:
    names = world.disk.names(layout.CORRUPT)
    return wish.id is not None and any(wish.id in name for name in names)


def at_end(world: World) -> Survey:
    """What holds when everything has ended and no daemon has anything to do."""
    found = at_rest(world)
    world.parents.read()
    if not world.durable and world.cuts:
        return found  # it may be lost; it is not there twice, and nothing stands in the way
    lines = journal(world)
    lives = _lives(lines)
    for task_id, places in found.places.items():
        path, entry = places[0]
        state = path.split("/")[0]
        if state not in layout.ENDED:
            raise Broken(f"{path} has not ended")
        records = found.records.get(task_id, {})
        _attempts(world, task_id, state, entry, records)
        if not any(_counts(life, records) == _told_by(entry) for life in [None, *lives[task_id]]):
            raise Broken(f"{path} does not count what its records tell: {_counts(None, records)}")
    if world.recurring:
        _recurring(world, found)
    _told(world, found)
    _journal(world, found, lines)
    carried_out(world, found, lines)
    _refusals(world)
    _fsck(world)
    for host in world.up():
        _idle(host)
    return found


def _attempts(
    world: World, task_id: str, state: str, entry: Entry, records: dict[int, dict[str, Any]]
) -> None:
    """A record for every attempt, and counts in the name that agree with them."""
    last = max(records, default=0)
    if sorted(records) != list(range(1, last + 1)):
        raise Broken(f"{task_id} has records of the attempts {sorted(records)}")
    if not records or ENDS.get(records[last]["event"]) != state:
        event = records[last]["event"] if records else None
        raise Broken(f"{task_id} is {state}, its last record says {event}")
    if not entry.attempt - 1 <= last <= entry.attempt:
        raise Broken(f"{task_id} has {last} records, its name counts to {entry.attempt}")
    asked = world.writers.asked.get(task_id, set())
    ends = [r for r in records.values() if r["event"] in ENDS]
    if len(ends) > 1 and "retry" not in asked:
        raise Broken(f"{task_id} ended {len(ends)} times: {[r['event'] for r in ends]}")
    replaced = any(w.doc.get("on_duplicate") == "replace" for w in world.writers.wishes.values())
    unasked = "cancel" not in asked and entry.miss != "drop" and "duplicate_of" not in records[last]
    problem = (records[last].get("error") or {}).get("type") if last in records else None
    if state == "cancelled" and unasked and not replaced and problem != "predecessor":
        raise Broken(f"{task_id} is cancelled, and nobody asked for it")


def _told_by(entry: Entry) -> tuple[int, int, int]:
    return entry.fails, entry.lost, entry.interrupted


def _lives(lines: list[dict[str, Any]]) -> defaultdict[str, list[Entry]]:
    """Of each task the entries with which somebody let it begin anew."""
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for line in lines:
        if line["event"] in ("retry", "release"):
            found[line["id"]].append(look.entry_at(line["entry"]))
    return found


def _counts(life: Entry | None, records: dict[int, dict[str, Any]]) -> tuple[int, int, int]:
    """Failed, lost and interrupted attempts, as the name of a task should tell: since its life began."""
    fails, lost, interrupted = _told_by(life) if life is not None else (0, 0, 0)
    for number, record in records.items():
        if life is not None and number < life.attempt:
            continue
        kind = (record["error"] or {}).get("type")
        lost += kind in ("lost", "crashed", "poison")
        interrupted += kind in ("interrupted", "snoozed")
        fails += record["outcome"] in ("error", "timeout") and kind != "deadline"
    return fails, lost, interrupted


def _told(world: World, found: Survey) -> None:
    """Each record was told to a parent as an event, once; nothing else was told."""
    _groups_told(world)
    _told_late(world)
    told = {key for key in world.watch.told if key[2] in (*ENDS, "retrying", "recurring-error")}
    recorded = {
        (task_id, attempt, record["event"])
        for task_id, records in found.records.items()
        for attempt, record in records.items()
        if not (world.forgetful and record["parent"] == layout.DEFAULT_PARENT)
    }
    told = told if not world.forgetful else {key for key in told if key in recorded}
    if missing := recorded - told:
        raise Broken(f"recorded and never told: {sorted(missing)[:3]}")
    if more := told - recorded:
        raise Broken(f"told and not recorded: {sorted(more)[:3]}")
    for task_id, records in found.records.items():
        for attempt, record in records.items():
            _same(world, record, world.watch.told.get((task_id, attempt, record["event"]), []))
            works = record["task"].startswith("order.") and record["started_at"] is not None
            works = works and not world.cuts  # an event that was not read goes with its task's end
            # A host that stood still in its claim, and claims when its death was dealt with: nobody tells.
            works = works and not (
                world.deaths_of_nodes and (record["error"] or {}).get("type") == "lost"
            )
            if works and (task_id, attempt, "ready") not in world.watch.told:
                raise Broken(f"{task_id} ran as attempt {attempt} and its parent never heard of it")


def _told_late(world: World) -> None:
    """That its deadline has passed is told of a task once, but for another deadline or a power cut.

    A node that dies while another one is faster leaves the same event, and nothing says whose is true.
    """
    most = 1 + world.cuts + (world.crashes + world.deaths_of_nodes if world.nodes > 1 else 0)
    many: Counter[str] = Counter()
    for (task_id, _, event), found in world.watch.told.items():
        many[task_id] += len(found) if event == "late" else 0
    for task_id, count in many.items():
        if count > most and "move" not in world.writers.asked.get(task_id, ()):
            raise Broken(f"{task_id} is told {count} times that it is late")


def _groups_told(world: World) -> None:
    """What is told of a group is the record of one of its failures, and why; it is put aside here."""
    for key in [key for key in world.watch.told if key[2] == "recurring-error"]:
        records = []
        for event in world.watch.told[key]:
            if "group" not in event:
                records.append(event)
            elif (
                event["group"]["why"] not in ("new", "frequent", "back")
                or not event["error"]["fingerprint"]
            ):
                raise Broken(f"told of a group: {event}")
        world.watch.told[key] = records
        if not records:
            del world.watch.told[key]


def _same(world: World, record: dict[str, Any], events: list[dict[str, Any]]) -> None:
    for event in events:
        if event != record:
            raise Broken(f"told {event}, recorded {record}")
    if len(events) > 1 + world.cuts:
        raise Broken(f"{record['id']} told {len(events)} times: {record['event']}")


def _journal(world: World, found: Survey, lines: list[dict[str, Any]]) -> None:
    """The last line of each task says where it stands; a line may be there again, none is missing."""
    last: dict[str, tuple[str, str]] = {}
    entries: defaultdict[str, set[str]] = defaultdict(set)
    for line in lines:
        if "entry" not in line:
            continue
        entries[line["id"]].add(line["entry"])
        if (known := last.get(line["id"])) is None or known[0] <= line["at"] or world.nodes == 1:
            last[line["id"]] = line["at"], line["entry"]
    for task_id, places in found.places.items():
        path = places[0][0]
        told = last.get(task_id, ("", None))[1]
        certain = world.nodes == 1 and not world.stepped
        if told != path and (certain or path not in entries[task_id]):
            raise Broken(f"{task_id} is at {path}, the journal says {told}")


def journal(world: World) -> list[dict[str, Any]]:
    """Every line of every journal, in order; a torn one only after a power cut."""
    lines = []
    for node in world.disk.names(layout.JOURNAL):
        for name in sorted(world.disk.names(f"{layout.JOURNAL}/{node}")):
            data = world.disk.read(f"{layout.JOURNAL}/{node}/{name}", 1 << 30)
            for line in data.split(b"\n"):
                try:
                    lines.append(orjson.loads(line.strip(b"\0")))
                except orjson.JSONDecodeError:
                    if line and not world.cuts:
                        raise Broken(f"torn line in the journal: {line!r}") from None
    return lines


def _refusals(world: World) -> None:
    """Every refused file stands with its reason beside it, and its refusal was told."""
    disk = world.disk
    reasons, beside = set(), set()
    for date in disk.names(layout.REJECTED):
        folder = f"{layout.REJECTED}/{date}"
        names = set(disk.names(folder))
        for name in names:
            if name.endswith(".reason.json"):
                reason = orjson.loads(disk.read(f"{folder}/{name}", LIMIT))["id"]
                reasons.add(reason)
                if name.removesuffix(".reason.json") in names:
                    beside.add(reason)
            elif f"{name}.reason.json" not in names:
                raise Broken(f"{folder}/{name} was refused without a reason")
    told, withdrawn = set(), set()
    for key, events in world.watch.told.items():
        if key[2] == "rejected":
            told.add(key[0])
            unsure = events[0]["error"]["reason"]["file"] in world.writers.unsure
            withdrawn |= {key[0]} if unsure and world.cuts else set()
    if beside - told and world.durable and not world.forgetful:
        raise Broken(f"refused and never told: {beside - told}")
    if told - reasons - withdrawn and world.durable:
        raise Broken(f"told as refused, without a reason on disk: {told - reasons - withdrawn}")


def _fsck(world: World) -> None:
    if world.strangers:
        return
    # A power cut in the middle of a take-in may leave names in ids/ of what its writer had not synced,
    # or takes back: to fsck those are tasks without a place, and to their writer none at all.
    wishes = world.writers.wishes.values()
    withdrawn = world.cuts and any(w.taken_back or not w.sure for w in wishes)
    for finding in fsck.check(world.disk):
        if finding.grave and not (withdrawn and finding.path.startswith(layout.IDS)):
            raise Broken(f"fsck: {finding}")


def _idle(host: Any) -> None:
    """Nothing is counted as running or waiting that does not."""
    state = host.state
    left = {k: v for k, v in state.busy.items() if v}
    alone = host.world.nodes == 1  # what another node has done is noticed when its turn comes
    if (
        state.runs
        or state.processes
        or state.beside
        or left
        or any(state.ahead.rows.values())
        or any(any(spans) for spans in state.ahead.spans.values())
        or state.claiming
        or state.asked
        or (alone and state.waiting)
    ):
        raise Broken(
            f"left in memory: {state.runs} {state.processes} {left} {state.claiming} "
            f"{state.asked} {state.waiting} {state.ahead.rows} {state.ahead.spans}"
        )
    staged = [n for n in host.world.disk.names(host.store.stage_dir) if n.startswith(".")]
    if staged and not host.world.strangers:
        raise Broken(f"left in staging at the end: {staged}")


def events_on_disk(world: World) -> list[str]:
    """Names of the events that no parent has read yet."""
    found = []
    for parent in world.disk.names(layout.OUTBOX):
        try:
            found += world.disk.names(f"{layout.OUTBOX}/{parent}")
        except (Missing, NotADirectoryError):
            continue
    return [name for name in found if parse_event(name) is not None]


__all__ = ["BadName", "Survey", "at_end", "at_rest", "journal", "survey"]
