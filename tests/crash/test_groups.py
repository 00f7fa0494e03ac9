"""What one round does to several tasks: nobody's file is taken for another's, nobody is in two places."""

from __future__ import annotations

import errno
from itertools import product
from typing import Any

import orjson
import pytest

from spool import fsck, layout, look
from spool.disk import Unreadable
from spool.quarantine import place_for
from spoold.core.values import Drop, Move, Source
from spoold.effects.group import Group, groups
from spoold.effects.store import Store
from tests.crash.scenarios import act, ident, submit, wait
from tests.simulation.faults import Counting, Wrapper
from tests.simulation.world import SECOND, World

BAD = {"task": "run.a", "prio": 1}


def refused(world: World) -> set[str]:
    """Names of the refused files of all days; each stands with a reason that names it."""
    names: set[str] = set()
    for date in world.disk.names(layout.REJECTED):
        folder = f"{layout.REJECTED}/{date}"
        here = set(world.disk.names(folder))
        files = {name for name in here if world.disk.info(f"{folder}/{name}.reason.json")}
        assert here == files | {f"{name}.reason.json" for name in files}
        names |= files
    return names


def reasons(world: World) -> list[str]:
    """Of which dropped files the reasons are."""
    folders = [f"{layout.REJECTED}/{date}" for date in world.disk.names(layout.REJECTED)]
    paths = [f"{f}/{n}" for f in folders for n in world.disk.names(f) if n.endswith(".reason.json")]
    return sorted(orjson.loads(world.disk.read(path, 1 << 20))["name"] for path in paths)


def told(world: World) -> int:
    return len(world.disk.names(f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}"))


# Refusals.


def test_two_names_of_one_file_are_refused_with_a_reason_each() -> None:
    world = World()
    world.boot()
    world.writers.put(orjson.dumps(BAD), name="a.json")
    world.disk.link("incoming/a.json", "incoming/b.json")
    world.run(90 * SECOND)
    assert refused(world) == {"a.json", "b.json"}
    assert reasons(world) == ["a.json", "b.json"]


def test_a_file_that_is_dropped_once_more_as_it_was_refused_leaves_incoming() -> None:
    world = World()
    world.boot()
    world.run(120 * SECOND)  # past midnight: both on one day
    world.writers.put(orjson.dumps(BAD), name="a.json")
    world.disk.link("incoming/a.json", "tmp/mine")
    world.run(90 * SECOND)
    world.disk.link("tmp/mine", "incoming/a.json")
    world.run(300 * SECOND)
    assert world.disk.names(layout.INCOMING) == []
    assert reasons(world) == ["a.json", "a.json"]
    assert told(world) == 2


def test_a_file_that_is_called_like_a_reason_replaces_none() -> None:
    world = World()
    world.boot()
    for name in ("x.json", "x.json.reason.json"):
        world.writers.put(orjson.dumps(BAD), name=name)
    world.run(SECOND)
    assert len(refused(world)) == 2
    assert reasons(world) == ["x.json", "x.json.reason.json"]


def test_refused_files_of_one_name_id_and_instant_are_all_kept_and_told() -> None:
    world = World()
    names = [f"{n:03d}.json" for n in range(300)]  # more than one round takes
    for _ in range(2):
        for name in names:
            world.writers.put(orjson.dumps({**BAD, "id": ident(1)}), name=name)
        world.boot()
        world.run(SECOND)
        world.crash()
    assert len(refused(world)) == 600
    assert reasons(world) == sorted(names * 2)
    assert told(world) == 600


# Moves.


def placed(world: World) -> list[tuple[str, str]]:
    return sorted((e.id, path.split("/")[0]) for path, e in look.entries(world.disk, layout.STATES))


def moved(kind: str, task_id: str, number: int, source: str, target: str) -> Move:
    """A transition as far as the store looks at it."""
    from spoold.core.values import Message

    content: dict[str, Any] = {"id": task_id, "attempt": number, "event": kind, "entry": target}
    ends = kind == "cancelled"
    return Move(
        event=kind,
        entry=look.entry_at(target),
        before="pending",
        after=target.split("/", maxsplit=1)[0],
        source=source,
        target=target,
        record=content if ends else None,
        message=Message(kind, "default", number, task_id, "run.a", content) if ends else None,
    )


def test_what_is_damaged_goes_where_its_parent_was_told_or_stays() -> None:
    """Another node may put something there first."""
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    ((path, entry),) = look.entries(world.disk, [layout.PENDING])
    world.disk.make_dir(layout.CORRUPT)
    told = place_for(world.disk, path)
    world.disk.write(told, b"of another node")
    move = Move(
        event="quarantine",
        entry=entry,
        before="pending",
        after=layout.CORRUPT,
        source=path,
        target=told,
        note={"reason": "damaged"},
    )
    (group,) = groups([move])
    (undone,) = Store(world.disk, "here", durable=False).perform(group, world.now().wall)
    assert undone.why == "gone"
    assert placed(world) == [(entry.id, "pending")]


@pytest.mark.parametrize("kind", ["claim", "hold"])
def test_of_a_group_that_waits_for_room_what_has_missed_its_deadline_does_not_start(
    kind: str,
) -> None:
    world = World()
    world.boot()
    for number, miss in ((1, "drop"), (2, "run"), (3, "fail")):
        doc = {"task": "run.a", "n": number, "at": "+1h", "deadline": "+2h", "on_miss": miss}
        submit(doc)(world)
    submit({"task": "run.a", "n": 4, "at": "+1h"})(world)
    wait(1)(world)
    moves = [
        moved(kind, entry.id, 1, path, layout.running("here", entry))
        for path, entry in look.entries(world.disk, [layout.PENDING])
    ]
    store, (group,) = Store(world.disk, "here", durable=False), groups(moves)
    now = world.now().wall
    store.lapse(group, now)
    assert not group.undone
    store.lapse(group, now + 7200 * SECOND)
    late = [ident(1), ident(3)] if kind == "claim" else []
    assert sorted(one.move.entry.id for one in group.undone) == late


@pytest.mark.parametrize("kinds", list(product(("hold", "cancelled"), repeat=3)), ids="-".join)
def test_moves_of_one_task_in_one_round_never_give_it_two_places(kinds: tuple[str, ...]) -> None:
    """Who comes first has it, whatever the others are; and what builds on those is undone with them."""
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"}, {"task": "run.a", "n": 2, "at": "+1h"})(world)
    wait(1)(world)
    ((source, entry),) = [row for row in look.entries(world.disk, ("pending",)) if row[1].id == ident(1)]
    targets = [layout.held(entry), layout.ended("cancelled", 0, entry), layout.ended("failed", 0, entry)]
    asked = [moved(k, entry.id, n, source, targets[n]) for n, k in enumerate(kinds)]
    asked.append(moved("hold", entry.id, 9, targets[1], layout.ended("done", 0, entry)))  # builds on it
    store = Store(world.disk, "n1", durable=True)
    undone = [row.move for group in groups(asked) for row in store.perform(group, world.wall)]
    assert undone == asked[1:]
    assert placed(world) == [(ident(1), targets[0].split("/")[0]), (ident(2), "pending")]
    lines = world.disk.read(next(_journals(world)), 1 << 20).splitlines()
    assert sum(ident(1).encode() in line for line in lines) == 2  # it came in, and its first move


def _journals(world: World) -> Any:
    return (path for path in world.disk.walk(layout.JOURNAL))


@pytest.mark.parametrize("torn", [False, True])
def test_only_a_line_without_an_end_is_ended_by_an_empty_one(torn: bool) -> None:
    """Each life of a daemon goes on behind what stands in the journal; who reads it by lines reads JSON."""
    world = World()
    for number in (1, 2):
        world.boot()
        submit({"task": "run.a", "n": number, "at": "+1h"})(world)
        wait(1)(world)
        world.crash()
        if torn and number == 1:
            world.disk.append(next(_journals(world)), b'{"at":"2026')
    (path,) = _journals(world)
    *whole, rest = world.disk.read(path, 1 << 20).split(b"\n")
    assert rest == b""
    assert [line for line in whole if not line.endswith(b"}")] == ([b'{"at":"2026'] if torn else [])
    assert sum(ident(2).encode() in line and b'"submit"' in line for line in whole) == 1


def test_behind_a_line_whose_end_cannot_be_read_a_new_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    world.crash()
    (path,), read = _journals(world), world.disk.read

    def broken(name: str, limit: int, start: int = 0) -> bytes:
        if name == path and start:
            raise Unreadable(errno.EIO, "cannot be read", name)
        return read(name, limit, start)

    with monkeypatch.context() as patch:
        patch.setattr(world.disk, "read", broken)
        world.boot()
        submit({"task": "run.a", "n": 2, "at": "+1h"})(world)
        wait(1)(world)
    lines = world.disk.read(path, 1 << 20).splitlines()
    assert [line for line in lines if not line.endswith(b"}")] == [b""]


@pytest.mark.parametrize("waits", [True, False])
def test_a_task_that_has_its_place_is_not_taken_in_again_from_what_was_staged(waits: bool) -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, **({"at": "+1h"} if waits else {})})(world)
    world.run(5 * SECOND)
    before = placed(world)
    world.crash()
    ((path, _),) = look.entries(world.disk, layout.STATES)
    world.disk.link(path, f"running/n1/.{ident(1)}.task")
    for _ in range(2):
        world.boot()
        world.run(5 * SECOND)
        assert placed(world) == before == [(ident(1), "pending" if waits else "done")]
        assert world.disk.names("running/n1") == []
        world.crash()


@pytest.mark.parametrize("left", ["staged", "nowhere"])
def test_a_task_that_is_put_in_its_place_has_the_class_that_its_handler_gives(left: str) -> None:
    soon = '[handlers."soon.*"]\nexec = ["/bin/true"]\npriority = "high"\n'
    world = World(more=f"|{soon}")
    world.boot()
    submit({"task": "soon.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    world.crash()
    ((path, entry),) = look.entries(world.disk, layout.STATES)
    if left == "staged":
        world.disk.move(path, f"running/n1/.{ident(1)}.task")
    else:
        world.disk.remove(path)
        world.disk.write(layout.SETTINGS, soon.encode())
        list(fsck.check(world.disk, repair=True))
    world.boot()
    assert entry.prio == "high"
    assert list(look.entries(world.disk, layout.STATES)) == [(path, entry)]


def test_what_cannot_come_in_keeps_no_other_action_in_incoming() -> None:
    """An action that was carried out goes; carried out again, it could undo what came after it."""
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    ((path, entry),) = look.entries(world.disk, ("pending",))
    body = look.read_task(world.disk, path)
    first, second, verb = (Drop(Source(f"incoming/{n}.json", n, n, 0)) for n in range(3))
    come = [
        Move(
            event="submit",
            entry=entry,
            before="new",
            after="pending",
            source=None,
            target=path,
            body=body,
        )
        for _ in range(3)
    ]
    hold = moved("hold", entry.id, 1, path, layout.held(entry))
    group = Group([come[0], come[1], first, hold, verb, come[2], second])
    group.undo(come[1], "full")
    assert group.drops == [verb, second]
    group.undo(come[2], "full")
    assert group.drops == [verb]


class Touch(Wrapper):
    """A writer is at his dropped file again when it has been read and is not yet taken away; once."""

    def __init__(self, disk: Any, holds: bytes) -> None:
        super().__init__(disk)
        self.holds = holds

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "link" and args[1].startswith(f"{layout.IDS}/") and self.holds:
            file = self.disk._file(f"{layout.INCOMING}/a.json")
            file.data, self.holds = self.holds, b""
            file.ctime += 1000


LATER = b'{"task": "run.a", "at": "+1h"}'


@pytest.mark.parametrize(
    ("holds", "tasks"), [(LATER, 1), (LATER + b"\n", 1), (LATER.replace(b".a", b".b"), 2)]
)
def test_a_file_that_is_changed_after_it_was_dropped_is_one_task_if_it_says_the_same(
    holds: bytes, tasks: int
) -> None:
    world = World()
    world.boot(wrap=lambda disk: Touch(disk, holds))
    world.writers.put(LATER, name="a.json")
    for _ in range(2):
        world.run(60 * SECOND)
        world.ring()
    assert [state for _, state in placed(world)] == ["pending"] * tasks
    assert world.disk.names(layout.INCOMING) == []


# Events.


def test_the_first_event_of_a_parent_is_told_when_its_outbox_is_on_disk() -> None:
    world = World(redo=False)  # with the log its name comes back with what it holds
    disk = Counting(world.disk)
    world.boot(wrap=lambda _: disk)
    submit({"task": "order.a", "n": 1})(world)
    wait(1)(world)
    box = f"{layout.OUTBOX}/shop"
    made = disk.story.index(f"make_dir {box}")
    event = next(i for i, step in enumerate(disk.story) if f"-> {box}/" in step)
    steps = [step.replace(",", "").split() for step in disk.story]
    synced = [
        i for i, words in enumerate(steps) if words[0].startswith("sync") and layout.OUTBOX in words
    ]
    assert any(made < i < event for i in synced), disk.story


def test_an_outbox_that_somebody_removed_is_made_again() -> None:
    world = World()
    world.boot()
    for n in (1, 2):
        submit({"task": "order.a", "n": n})(world)
        wait(1)(world)
        assert [e["id"] for e in world.parents.read()] == [ident(n)]
        assert world.disk.remove_dir(f"{layout.OUTBOX}/shop")


SHARDS = (layout.IDS, layout.ATTEMPTS, *layout.ENDED, layout.PENDING, layout.HELD, layout.REJECTED)


def test_a_shard_that_was_tidied_away_is_made_again() -> None:
    """As the packer does with a day of which nothing is left: an id of that day may still come."""
    world = World()
    world.boot()
    for n in (1, 2):
        submit({"task": "run.a", "n": n})(world)
        submit({"task": "run.a", "n": n + 4, "at": "+1h"})(world)
        submit(BAD)(world)
        wait(1)(world)
        act("cancel", n + 4)(world)
        wait(1)(world)
        assert placed(world) == [(ident(n), "done"), (ident(n + 4), "cancelled")]
        assert len(refused(world)) == 1
        for path in [path for top in SHARDS for path in world.disk.walk(top)]:
            world.disk.remove(path)
            place = layout.parent_of(path)
            while "/" in place:
                world.disk.remove_dir(place)
                place = layout.parent_of(place)


class Tidy(Wrapper):
    """Somebody removes empty shards of pending/ whenever directories are about to be synced."""

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "sync_dirs":
            for path in [path for path in args[0] if path.startswith(f"{layout.PENDING}/")]:
                self.disk.remove_dir(path)


def test_a_shard_that_is_tidied_away_before_it_is_synced_holds_nothing_up() -> None:
    world = World(redo=False)
    world.boot(wrap=Tidy)
    submit({"task": "run.a", "n": 1, "at": "+2s"})(world)
    wait(1)(world)
    assert placed(world) == [(ident(1), "pending")]
    wait(3)(world)
    assert placed(world) == [(ident(1), "done")]


def test_what_a_person_moved_out_of_held_has_run_when_it_has() -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+2s", "run": [["never", 0]]})(world)
    wait(1)(world)
    act("hold", 1)(world)
    wait(1)(world)
    ((held, entry),) = look.entries(world.disk, ("held",))
    world.disk.make_dir(layout.parent_of(layout.pending(entry)))
    world.disk.move(held, layout.pending(entry))
    world.crash()
    world.boot()
    wait(2)(world)
    assert placed(world) == [(ident(1), "running")]
    world.crash()
    world.boot()
    wait(1)(world)
    assert look.record(world.disk, ident(1), 1)["outcome"] == "lost"


def test_an_end_that_somebody_else_has_recorded_is_not_told_in_other_words() -> None:
    """The record is the moment an attempt ends: from then on only this end can happen."""
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    ((source, entry),) = look.entries(world.disk, ("pending",))
    first = moved("cancelled", entry.id, 1, source, layout.ended("cancelled", 0, entry))
    world.disk.make_dir(layout.parent_of(layout.record(entry.id, 1)))
    world.disk.write(layout.record(entry.id, 1), orjson.dumps({**first.record, "by": "another node"}))
    (group,) = groups([first])
    undone = Store(world.disk, "n1", durable=True).perform(group, world.wall)
    assert [row.move for row in undone] == [first]  # whoever recorded it goes on with it
    assert placed(world) == [(ident(1), "pending")]
    assert not [path for path in world.disk.walk(layout.OUTBOX) if "cancelled" in path]


def test_an_attempt_that_ended_otherwise_before_a_crash_ends_as_its_record_says() -> None:
    """Without durability a power cut may leave the record of an end and not the rename."""
    world = World(durability="relaxed")
    world.boot()
    submit({"task": "run.a", "n": 1, "run": [["never", 0]]})(world)
    wait(1)(world)
    ((_, entry),) = look.entries(world.disk, ("running",))
    target = layout.ended("failed", 0, entry)
    world.disk.make_dir(layout.parent_of(layout.record(entry.id, 1)))
    record = {"id": entry.id, "attempt": 1, "event": "failed", "entry": target}
    world.disk.write(layout.record(entry.id, 1), orjson.dumps(record))
    wait(100)(world)
    assert placed(world) == [(ident(1), "failed")]
    assert not world.up()[0].state.runs
