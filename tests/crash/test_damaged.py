"""Whatever is damaged, wherever it stands: the daemon starts, says so, and serves what is whole."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from spool import layout, packs
from spool.disk import Unreadable
from spool.look import entry_at, records
from spool.names import Entry, event_name, id_date
from tests.crash.scenarios import again, ident, rng_of, submit, turn, wait
from tests.simulation.faults import Crash, Dying
from tests.simulation.world import START, World

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = {
    "empty": b"",
    "torn": b'{"v":1,"id":"019aa8f5a0007000800',
    "zeroes": bytes(600),
    "no object": b"[]",
    "no text": b"\xff\xfe\x00",
    "null": b"null",
    "a version of tomorrow": b'{"v":99}',
    "no id": b'{"v":1,"task":"run.a","args":{}}',
    "wrong types": b'{"v":1,"id":7,"task":[],"args":{},"attempt":"x","entry":5,"event":{}}',
    "types within": b'{"v":1,"id":"019aa8f5a00070008000000000000001","task":"run.a","args":{},"at":5,'
    b'"attempt":"x","event":"done","entry":"done/x","error":[]}',
    "a refusal": b'{"id":"019aa8f5a00070008000000000000001","event":"rejected","error":{"reason":"no"}}',
    "rows": b'[{"kind":5},{"until":"soon"},{"task":7,"kind":"pause","since":[]},{}, 5]',
    "too deep": b"[" * 100_000,
}
KINDS = {"fifo": stat.S_IFIFO | 0o600, "link": stat.S_IFLNK | 0o777, "directory": stat.S_IFDIR | 0o700}


def places() -> Iterator[str]:
    """One path of every kind that start-up, a scan or a verb may read."""
    made = [Entry(time=START - 1, id=ident(n), task="run.a", why="w" * (n > 8)) for n in range(16)]
    yield layout.running("n1", made[1])
    yield layout.running("n1", Entry(time=START, id=ident(2), task="order.a", timeout=START))
    yield layout.pending(made[3])
    yield layout.held(Entry(time=START, id=ident(4), task="run.a", why="no-handler"))
    yield layout.ended("failed", START, made[5])
    yield layout.record(ident(1), 1)
    yield layout.record(ident(5), 1)
    yield layout.own_copy(ident(6))
    yield f"running/n1/.{ident(7)}.task"
    for number, event in enumerate(("ready", "done", "late", "rejected", "cancelled"), 1):
        yield f"running/n1/.shop,{event_name(START, ident(number), 'run.a', event)}"
    yield "running/n1/.pauses"
    yield "running/n1/.reason.0"
    yield layout.PAUSES


def serves(world: World) -> None:
    """It starts, verbs about what is damaged are answered, and new work is done."""
    world.boot()
    wait(1)(world)
    for kind in ("cancel", "retry", "release"):
        world.writers.drop({"action": kind, "ids": [ident(n) for n in range(1, 8)]})
        wait(2)(world)
    submit({"task": "run.b", "n": 15})(world)
    wait(5)(world)
    assert any(ident(15) in path for path in world.disk.walk(layout.DONE))
    assert not world.disk.names(layout.INCOMING)


@pytest.mark.parametrize("data", WORDS.values(), ids=WORDS)
def test_no_damaged_file_keeps_the_daemon_from_serving(data: bytes) -> None:
    world = World()
    for path in places():
        world.disk.make_dir(layout.parent_of(path))
        world.disk.write(path, data)
    serves(world)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_that_is_no_file_keeps_the_daemon_from_serving(kind: int) -> None:
    world = World()
    for path in places():
        world.disk.make_dir(layout.parent_of(path))
        if stat.S_ISDIR(kind):
            world.disk.make_dir(path)
        else:
            world.disk.place(path, kind)
    serves(world)


def test_what_waits_and_the_disk_cannot_read_keeps_the_daemon_from_nothing_else() -> None:
    world = World()
    dropped = f"{layout.INCOMING}/{ident(8)}.json"
    held = layout.held(Entry(time=START, id=ident(4), task="run.a", why="no-handler"))
    pending = layout.pending(Entry(time=START - 1, id=ident(3), task="run.a"))
    ended = layout.ended("failed", START, Entry(time=START - 1, id=ident(5), task="run.a"))
    for path in (dropped, held, pending, ended):
        world.disk.make_dir(layout.parent_of(path))
        world.disk.write(path, b"{}")
        world.disk.rot(path)
    for path in (held, pending, ended):
        world.disk.make_dir(layout.parent_of(own := layout.own_copy(entry_at(path).id)))
        world.disk.link(path, own)
    world.boot()
    wait(61)(world)  # a file that is dropped may become readable for a minute
    assert not world.disk.info(dropped)
    serves(world)
    assert world.disk.info(pending) is None
    assert f"{layout.CORRUPT}/{pending.replace('/', '_')}" in world.disk.walk(layout.CORRUPT)
    assert world.disk.info(held) is not None
    assert world.disk.info(ended) is not None


def stays(world: World, path: str) -> None:
    """What the disk does not give ends the daemon, which changes nothing; once it can be read, all is well."""
    before = world.disk.info(path)
    world.disk.rot(path)
    with pytest.raises(Unreadable, match="cannot be read"):
        serves(world)
    world.disk.rotten.clear()
    assert world.disk.info(path) == before
    world.crash()


def test_a_record_that_cannot_be_read_now_is_no_reason_to_run_again() -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1})(world)
    wait(5)(world)
    (ended,) = [path for path in world.disk.walk(layout.DONE) if ident(1) in path]
    world.crash()
    world.disk.move(ended, f"running/n1/{ended.rpartition('/')[2]}")  # as it was before its entry moved
    stays(world, layout.record(ident(1), 1))
    world.boot()
    wait(5)(world)
    assert world.disk.info(ended) is not None
    assert world.disk.info(layout.record(ident(1), 2)) is None


def test_an_id_whose_list_cannot_be_read_now_is_not_taken_for_a_new_one() -> None:
    world = World()
    ids = f"{layout.PACKED}/{id_date(ident(15))}/2026-12-31.1{packs.IDS}"
    world.disk.make_dir(layout.parent_of(ids))
    world.disk.write(ids, f"{ident(15)} digest\n".encode())
    stays(world, ids)
    assert world.disk.names(layout.INCOMING)
    world.boot()
    wait(5)(world)
    assert world.disk.info(layout.record(ident(15), 1)) is None


def test_a_task_sent_again_whose_own_copy_cannot_be_read_is_refused_after_a_while() -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1})(world)
    wait(5)(world)
    world.disk.rot(layout.own_copy(ident(1)))
    again(1)(world)
    wait(30)(world)
    assert world.disk.names(layout.INCOMING)
    wait(60)(world)
    assert not world.disk.names(layout.INCOMING)
    assert any(ident(1) in path for path in world.disk.walk(layout.DONE))
    assert world.disk.info(layout.record(ident(1), 2)) is None


def tear(world: World, number: int) -> str:
    """The entry of a task, whose own copy is damaged now: both are one file."""
    own = layout.own_copy(ident(number))
    (path,) = [p for state in layout.STATES for p in world.disk.walk(state) if ident(number) in p]
    for name in (own, path):
        world.disk.remove(name)
    world.disk.write(path, b"{")
    world.disk.link(path, own)
    return path


def marks(world: World, number: int) -> list[str]:
    """What ran under an id, as its records tell."""
    return [record["args"]["mark"] for record in records(world.disk, ident(number))]


@pytest.mark.parametrize("changes", [{}, {"task": "run.b"}], ids=["the same", "another"])
def test_a_task_that_has_ended_and_is_damaged_is_not_run_again_by_a_resend(
    changes: dict[str, str],
) -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1})(world)
    wait(5)(world)
    path = tear(world, 1)
    again(1, **changes)(world)
    wait(5)(world)
    assert world.disk.info(path) is not None
    assert marks(world, 1) == ["s0"]
    (told,) = [p for p in world.disk.walk(layout.REJECTED) if p.endswith(layout.REASON)]
    assert b"whether it is the same task is not" in world.disk.read(told, 9999)


def test_a_task_that_waits_and_is_damaged_is_one_whoever_sends_it_again() -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
    wait(1)(world)
    path = tear(world, 1)
    again(1)(world)
    wait(5)(world)
    assert any(p.endswith(layout.REASON) for p in world.disk.walk(layout.REJECTED))
    assert [p for p in world.disk.walk(layout.PENDING) if ident(1) in p] == [path]


@pytest.mark.parametrize("died", [False, True])
def test_a_task_whose_id_came_free_ends_by_its_own_record(*, died: bool) -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1})(world)
    wait(5)(world)
    (ended,) = [path for path in world.disk.walk(layout.DONE) if ident(1) in path]
    for path in (ended, layout.own_copy(ident(1))):  # by a hand
        world.disk.remove(path)
    world.watch.attempts.clear()  # it is another task
    again(1, task="run.b")(world)
    if died:
        world.turn()
        assert any(ident(1) in p for p in world.disk.walk(layout.RUNNING))
        world.crash()
        world.boot()
    wait(5)(world)
    assert records(world.disk, ident(1))[-1]["task"] == "run.b"
    assert any(ident(1) in p and "run.b" in p for p in world.disk.walk(layout.DONE))


def test_a_task_under_the_id_of_one_that_was_put_aside_has_none_of_its_records() -> None:
    world = World()
    world.boot()
    submit({"task": "run.a", "n": 1, "run": [["1", 2]], "backoff": 3600})(world)
    wait(5)(world)
    world.crash()
    tear(world, 1)
    world.boot()
    world.writers.drop({"action": "cancel", "ids": [ident(1)]})
    wait(5)(world)
    assert marks(world, 1) == []


def test_who_waits_for_a_task_that_was_put_aside_waits_for_one_that_comes_anew() -> None:
    world = World()
    world.boot()
    for number in (1, 2):
        submit({"task": "run.a", "n": number, "at": "+1h"})(world)
        wait(1)(world)
        world.crash()
        tear(world, number)
        world.boot()
        world.writers.drop({"action": "cancel", "ids": [ident(number)]})
        wait(5)(world)
    for number in (1, 2):
        after = [ident(n) for n in range(1, number + 1)]
        doc = {"task": "run.b", "n": 10 + number, "after": after, "on_failure": "cancel"}
        submit(doc)(world)
    turn(3)(world)
    again(1, at="+0s")(world)
    wait(5)(world)
    assert any(ident(11) in path for path in world.disk.walk(layout.DONE))
    assert any(ident(12) in path for path in world.disk.walk(layout.CANCELLED))


@pytest.mark.parametrize("path", [layout.PAUSES, layout.SCHEDULES, layout.REDO])
def test_what_people_asked_for_and_cannot_be_read_now_is_not_forgotten(path: str) -> None:
    world = World()
    world.boot()
    world.writers.drop({"action": "pause", "task": "*"})
    wait(1)(world)
    world.crash()
    if not world.disk.info(path):
        world.disk.write(path, b"[]")
    stays(world, path)


@pytest.mark.parametrize("redo", [True, False])
@pytest.mark.parametrize("cut", [None, 1, 2])
def test_that_a_task_was_put_aside_is_told_once_wherever_the_daemon_dies(
    cut: int | None, *, redo: bool
) -> None:
    for n in range(100):
        world = World(redo=redo)
        world.boot()
        submit({"task": "run.a", "n": 1, "at": "+1h"})(world)
        wait(60)(world)
        world.crash()
        own, (path,) = layout.own_copy(ident(1)), list(world.disk.walk(layout.PENDING))
        for name in (own, path):
            world.disk.remove(name)
        world.disk.write(path, b"{")
        world.disk.link(path, own)
        world.disk.sync([path], [layout.parent_of(path), layout.parent_of(own), layout.INCOMING])
        died = False
        for wrap in (lambda disk, n=n: Dying(disk, n), None):
            try:
                world.boot(wrap=wrap)
                for _ in range(2):
                    world.writers.drop({"action": "cancel", "ids": [ident(1)]})
                    wait(5)(world)
            except Crash:
                died = True
                world.power_cut(rng_of(n, cut)) if cut else world.crash()
        (gone,) = [p for p in world.disk.walk(layout.CORRUPT) if not p.endswith(layout.REASON)]
        assert gone.endswith(path.replace("/", "_"))
        told = [p for p in world.disk.walk(layout.OUTBOX) if f"{ident(1)},run.a,failed" in p]
        assert len(told) == 1, (n, told)
        assert b'"entry":"%s"' % gone.encode() in world.disk.read(told[0], 9999)
        assert world.disk.info(own) is None
        if not died:
            return
    pytest.fail("it dies in every round")
