"""What stands in incoming/: taken in the order it was dropped in, and never mistaken for another."""

from __future__ import annotations

import errno
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from msgspec.structs import replace

from spool import daemons, handed, keys, layout, look
from spool.actions import Submit, interpret
from spool.disk import DiskFull
from spool.names import DAY_US, date_of, id_time
from spool.place import mark_of
from spool.times import format_utc
from spool.views import task_view
from spool.why import Why
from spoold.core import rights, share
from spoold.core.fairness import FIRST
from spoold.core.values import Arrived, Invalidated, Now, Who
from spoold.sources.crowd import KEPT, Crowd
from spoold.sources.intake import BURST, LEAST, LONG, SHUT, SLICE, Intake
from spoold.sources.signatures import AT_ONCE, Signatures
from tests.crash.scenarios import ident, say, submit, wait
from tests.simulation import invariants
from tests.simulation.faults import WRITES, Failing, Wrapper
from tests.simulation.host import LATE_HANDLER, Host, load
from tests.simulation.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SAME = "same.json"
EARLY = START // SECOND - 3600


def world() -> World:
    made = World()
    made.boot()
    return made


def drop(world: World, name: str, doc: dict[str, Any]) -> None:
    """A file, and a moment later."""
    world.writers.put(orjson.dumps(doc), name=name)
    world.pass_time(1000)


@pytest.mark.parametrize("names", [("a.json", "z.json"), ("z.json", "a.json")])
@pytest.mark.parametrize(
    ("verbs", "state"), [(("hold", "release"), "pending"), (("release", "hold"), "held")]
)
def test_verbs_are_carried_out_in_the_order_of_their_drops(
    names: tuple[str, str], verbs: tuple[str, str], state: str
) -> None:
    here = world()
    submit({"task": "run.a", "n": 1, "at": "+1h"})(here)
    wait(1)(here)
    for name, verb in zip(names, verbs, strict=True):
        drop(here, name, {"action": verb, "ids": [ident(1)]})
    wait(1)(here)
    assert [path.split("/")[0] for path, _ in look.entries(here.disk, layout.STATES)] == [state]


def test_a_verb_is_not_refused_while_its_task_may_stand_further_down_the_listing() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    drop(here, "a.json", {"action": "cancel", "ids": [ident(1)]})
    for n in range(SLICE):
        drop(here, f"b{n}.json", {"task": "run.a"})
    assert len(intake.look(here.now())) == BURST - 1  # the cancel waits for its task
    drop(here, "c.json", {"task": "run.a", "id": ident(1)})  # the listing came too early for it
    intake.ring()
    for _ in range(4):
        here.pass_time(60 * SECOND)
        assert all(isinstance(event, Arrived) for event in intake.look(here.now()))


def test_what_is_high_and_new_does_not_wait_for_a_long_listing() -> None:
    """Every other look is at the newest alone; what has to do with other actions keeps its place."""
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))

    def names() -> list[str]:
        found = [event.source.path.rpartition("/")[2] for event in intake.look(here.now())]
        for name in found:
            here.disk.remove(f"{layout.INCOMING}/{name}")
        return found

    for n in range(5 * BURST):
        drop(here, f"b{n:04}.json", {"task": "run.a"})
    intake.heard([f"b{3 * BURST:04}.json"])
    assert names() == [f"b{n:04}.json" for n in range(BURST)]
    new = {
        "c.json": {"task": "run.a", "priority": "high"},
        "d.json": {"task": "run.a", "meta": {"not": "high"}},
        "e.json": {"task": "run.a", "priority": "high", "key": "k"},
        "f.json": {"action": "cancel", "ids": [ident(1)], "why": "high"},
        ".g.json": {"task": "run.a", "priority": "high"},
        "h.json": {"task": "run.b", "priority": "high"},
        "i.json": {"tasks": [{"task": "run.a", "priority": "high"}]},
    }
    for name, doc in new.items():
        drop(here, name, doc)
    here.writers.put(b'{"task": "run.a", "priority": "high"', name="j.json")  # not finished
    for _ in range(2):
        intake.ring()
        intake.heard([*new, "j.json", "gone.json"])
    assert names() == ["c.json", "h.json"]
    drop(here, "k.json", {"task": "run.a", "priority": "high"})
    intake.heard(["k.json"])
    assert names() == [f"b{n:04}.json" for n in range(BURST, 2 * BURST)]
    assert names() == ["k.json"]
    assert names() == [f"b{n:04}.json" for n in range(2 * BURST, 3 * BURST)]
    assert names() == [f"b{n:04}.json" for n in range(3 * BURST, 5 * BURST)]
    assert names() == ["d.json", "e.json", "i.json"]  # the cancel waits for its task


def test_what_is_high_and_came_before_anybody_listened_does_not_wait_either() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    for n in range(3 * SLICE):
        drop(here, f"b{n:04}.json", {"task": "run.a"})
    for event in intake.look(here.now()):
        here.disk.remove(event.source.path)
    drop(here, "c.json", {"task": "run.a", "priority": "high"})
    intake.catch_up()
    assert [event.source.path for event in intake.look(here.now())] == [f"{layout.INCOMING}/c.json"]


class Meanwhile(Wrapper):
    """Somebody does something before the n-th change, but never between a look and the removal."""

    def __init__(self, disk: Any, n: int, act: Callable[[], None]) -> None:
        super().__init__(disk)
        self.left = n
        self.act = act

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb not in WRITES or str(args[:1]).startswith(f"('{layout.INCOMING}"):
            return
        self.left -= 1
        if self.left == -1:
            self.act()


@pytest.mark.parametrize(
    "first", [{"task": "run.a"}, {"task": "run.a", "prio": 1}], ids=["valid", "refused"]
)
@pytest.mark.parametrize("n", range(12))
def test_a_new_file_under_the_name_of_an_old_one_is_not_removed_with_it(
    n: int, first: dict[str, Any]
) -> None:
    """Not even where it got the number of the old one's inode."""
    here = World()

    def replace() -> None:
        path = f"{layout.INCOMING}/{SAME}"
        if here.disk.info(path) is None:
            return
        here.disk.remove(path)
        here.pass_time(1000)
        doc = {"task": "run.b", "args": {"mark": "new"}}
        here.writers._wish(doc, *here.writers.put(orjson.dumps(doc), name=SAME), sure=True)

    here.boot(wrap=lambda disk: Meanwhile(disk, n + 1, replace))
    drop(here, SAME, first)
    here.run(SECOND)
    invariants.at_rest(here)
    here.drain()
    invariants.at_end(here)


def test_a_batch_waits_until_there_is_an_inode_for_each_of_its_tasks() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    tasks = [{"task": "run.a", "id": ident(n)} for n in range(5)]
    drop(here, "a.json", {"tasks": tasks})
    for n in range(3):
        drop(here, f"b{n}.json", {"task": "run.a"})
    drop(here, "c.json", {"action": "cancel", "ids": [ident(1)]})  # not refused: its task is there

    def names(room: int) -> list[str]:
        intake.ring()
        here.pass_time(60 * SECOND)
        found = intake.look(here.now(), room)
        assert all(isinstance(event, Arrived) for event in found)
        return [event.source.path.rpartition("/")[2] for event in found]

    assert names(room=2) == ["b0.json", "b1.json"]
    assert names(room=4) == ["b0.json", "b1.json", "b2.json"]  # nothing was removed: they come again
    assert names(room=5) == ["a.json", "c.json"]


def test_what_there_was_no_room_for_does_not_wait_for_itself_once_there_is() -> None:
    """What it names nobody knows; and nobody waits for it for ever to bring what another one names."""
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    drop(here, "a.json", {"tasks": [{"task": "run.a", "after": [ident(1)]}, {"task": "run.a"}]})
    drop(here, "b.json", {"action": "cancel", "ids": [ident(2)]})

    def refused(room: int) -> set[str]:
        intake.ring()
        here.pass_time(SECOND)
        events = intake.look(here.now(), room)
        assert all(isinstance(event, Invalidated) for event in events)
        return {event.source.path.rpartition("/")[2] for event in events}

    assert not any(refused(room=1) for _ in range(10))
    assert set().union(*(refused(room=10) for _ in range(4))) == {"a.json", "b.json"}


class Looks(Wrapper):
    """Counts how often each file is looked at, and read."""

    def __init__(self, disk: Any) -> None:
        super().__init__(disk)
        self.counts: dict[str, Counter[str]] = {"read": Counter(), "info": Counter()}

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb in self.counts:
            self.counts[verb][args[0]] += 1


@pytest.mark.parametrize("users", [False, True])
def test_without_room_what_adds_tasks_is_read_once_and_all_else_is_carried_out(*, users: bool) -> None:
    here = World()
    disk, settings = Looks(here.disk), load(here.settings)
    crowd = Crowd(disk, Strangers(), settings) if users else None  # type: ignore[arg-type]
    intake = Intake(disk, settings, ZoneInfo("UTC"), crowd)  # type: ignore[arg-type]
    submits = [f"{n:04}.json" for n in reversed(range(KEPT + SLICE))]  # more than a pass remembers
    for name in submits:
        drop(here, name, {"task": "run.a"})
    drop(here, "bad.json", {"action": "submitt", "task": "run.a"})
    drop(here, "again.json", {"action": "replay", "match": {"state": "failed"}})
    for n, doc in enumerate([{"action": "pause"}, {"action": "prune"}]):
        drop(here, f"z{n}.json", doc)
    drop(here, "zz.json", {"action": "cancel", "match": {"task": "run.a"}})  # what lies there as well

    done: list[str] = []
    for _ in range(4):
        intake.ring()
        while intake.busy:
            for event in intake.look(here.now(), SHUT):
                here.disk.remove(event.source.path)
                done.append(event.source.path)
    assert sorted(done) == ["incoming/z0.json", "incoming/z1.json"]
    assert intake.short
    assert not intake.unsettled
    assert {*disk.counts["read"].values()} == {1}
    assert users or {*disk.counts["info"].values()} == {2}  # a pass asks whose each file is
    drop(here, "0new.json", {"task": "run.a"})
    here.pass_time(60 * SECOND)  # what was carried out counts for the rate no more
    crowd = Crowd(disk, Strangers(), settings) if users else None  # type: ignore[arg-type]
    fresh = Intake(disk, settings, ZoneInfo("UTC"), crowd)  # type: ignore[arg-type]
    first: list[list[str]] = []
    for other in (fresh, intake):
        other.ring()
        while not (found := other.look(here.now())):
            pass
        first.append([event.source.path for event in found])
    assert first[0] == first[1]


def test_without_room_what_comes_under_a_name_that_waits_is_read_anew() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    drop(here, SAME, {"task": "run.a"})
    assert intake.look(here.now(), SHUT) == []
    here.disk.remove(f"{layout.INCOMING}/{SAME}")
    drop(here, SAME, {"action": "prune"})
    intake.ring()
    intake.heard([SAME])
    (event,) = intake.look(here.now(), SHUT)
    assert isinstance(event, Arrived)


def test_slices_are_small_while_rounds_take_long_and_large_again_after() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    for n in range(5 * SLICE):
        drop(here, f"{n:04}.json", {"task": "run.a"})
    sizes = []
    for took in [LONG + 1] * 7 + [LONG // 2] + [1000] * 7:
        sizes.append(len(intake.look(here.now())))
        intake.took(took)
    assert sizes[:7] == [BURST, 64, 32, 16, LEAST, LEAST, LEAST]
    assert sizes[8:] == [LEAST, 16, 32, 64, BURST, BURST, BURST]


def tasks_of(world: World) -> list[int]:
    return sorted(int(e.id[-6:], 16) for _, e in look.entries(world.disk, layout.STATES))


def test_what_comes_again_is_let_go_only_when_the_first_has_its_place() -> None:
    """The first may not get there: its disk says no, and then its writer takes it back."""
    here = World()
    here.boot(wrap=lambda disk: FailingOn(disk, f".{ident(1)}.task"))
    drop(here, "a.json", {"tasks": [{"task": "run.a", "id": ident(n), "at": "+1h"} for n in (1, 2)]})
    drop(here, "b.json", {"task": "run.a", "id": ident(1), "at": "+1h"})
    here.turn()
    assert here.disk.info(f"{layout.INCOMING}/b.json") is not None
    here.disk.remove(f"{layout.INCOMING}/a.json")
    here.run(2 * SECOND)
    assert tasks_of(here) == [1]
    assert here.disk.names(layout.INCOMING) == []


class Directories(Wrapper):
    """Where others may write there is a directory in the last moment, of what goes or of what comes."""

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "remove" and args[0].startswith(f"{layout.INCOMING}/"):
            self.disk.remove(args[0])
            self.disk.make_dir(args[0])
        elif verb == "move" and args[1].startswith(f"{layout.OUTBOX}/"):
            self.disk.make_dir(args[1])


def test_a_directory_in_the_place_of_an_action_or_of_an_event_stops_nothing() -> None:
    here = World()
    here.boot(wrap=Directories)
    for n in range(3):
        drop(here, f"{n}.json", {"task": "run.a", "id": ident(n)})
    drop(here, "bad.json", {"task": "run.a", "prio": 1})
    here.run(60 * SECOND)
    assert [state for state, _ in places(here)] == ["done"] * 3
    assert len(here.disk.names(f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}")) == 4


class FailingOn(Wrapper):
    """A write of what is named so fails once."""

    def __init__(self, disk: Any, name: str, of: str = "") -> None:
        super().__init__(disk)
        self.name = name
        self.of = of

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "write" and args[0].startswith(self.of) and args[0].endswith(self.name):
            self.name = "\n"
            raise DiskFull(errno.ENOSPC, "full", args[0])


class NoOutbox(Wrapper):
    """Nothing can be told."""

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "move" and args[1].startswith(layout.OUTBOX):
            raise DiskFull(errno.ENOSPC, "full", args[1])


class Closed(Wrapper):
    """A writer has closed his box, until spoold has started."""

    closed = True

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if (
            self.closed
            and verb in ("info", "read", "remove")
            and args[0].startswith(f"{layout.INCOMING}/")
        ):
            raise PermissionError(errno.EACCES, "is closed", args[0])


@pytest.mark.parametrize("power", [False, True])
def test_what_others_close_or_put_into_an_outbox_keeps_spoold_from_no_start(*, power: bool) -> None:
    here, box = World(), f"{layout.OUTBOX}/{layout.DEFAULT_PARENT}"
    here.boot(wrap=None if power else NoOutbox)
    drop(here, "bad.json", {"task": "run.a", "id": ident(2), "prio": 1})
    if power:
        drop(here, "a.json", {"task": "run.a", "id": ident(1)})
        here.run(SECOND)
        told = here.disk.names(box)
        here.power_cut(Random(1))
        for name in told:
            if here.disk.info(f"{box}/{name}") is not None:
                here.disk.remove(f"{box}/{name}")
            here.disk.make_dir(f"{box}/{name}")
    else:
        here.turn()
        here.crash()
    closed = Closed(here.disk)
    here.boot(wrap=lambda _: closed)
    closed.closed = False
    here.run(60 * SECOND)
    assert [state for state, _ in places(here)] == ["done"] * power
    assert any("rejected" in name for name in here.disk.names(box))


@pytest.mark.parametrize("name", ["a.json", "to,n1,a.json", "no name.json"])
def test_a_refusal_that_was_not_told_before_a_crash_is_told_after_it(name: str) -> None:
    here = World()
    here.boot(wrap=NoOutbox)
    drop(here, name, {"task": "run.a", "id": ident(1), "retries": -1})
    here.turn()
    assert not invariants.events_on_disk(here)
    here.crash()
    here.boot()
    here.run(SECOND)
    assert [n for n in invariants.events_on_disk(here) if "rejected" in n]


def test_what_another_node_is_about_to_forward_is_not_refused_while_it_is_empty() -> None:
    here = world()
    drop(here, "0.json", {"task": "run.a", "id": ident(1), "at": "+1d"})
    here.run(SECOND)
    there = f"{layout.INCOMING}/to,n0,x.json"
    here.disk.write(there, b"")
    here.run(60 * SECOND)
    assert here.disk.names(layout.REJECTED) == []
    assert here.disk.info(there) is not None
    here.run(2 * 3600 * SECOND)  # nor later, where that node was fenced
    assert here.disk.info(there) is None
    assert here.disk.names(layout.REJECTED) == []
    drop(here, "to,n0,x.json", {"action": "cancel", "ids": [ident(1)]})
    here.run(SECOND)
    assert [state for state, _ in places(here)] == ["cancelled"]


def test_what_comes_again_is_not_known_by_a_batch_that_is_refused() -> None:
    here = world()
    drop(here, "0.json", {"task": "run.a", "id": ident(3), "at": "+1h"})
    here.run(SECOND)
    both = [{"task": "run.a", "id": ident(n), "at": "+1h", "args": {"other": n}} for n in (1, 3)]
    drop(here, "a.json", {"tasks": both})
    drop(here, "b.json", both[0])
    here.run(2 * SECOND)
    assert tasks_of(here) == [1, 3]
    assert "a.json" in str(
        [here.disk.names(f"{layout.REJECTED}/{d}") for d in here.disk.names(layout.REJECTED)]
    )


def test_nothing_waits_for_a_task_that_was_refused_in_the_same_round() -> None:
    here = world()
    drop(here, "0.json", {"task": "run.a", "id": ident(3), "at": "+1h", "key": "k"})
    here.run(SECOND)
    drop(here, "a.json", {"task": "run.a", "id": ident(1), "key": "k", "on_duplicate": "reject"})
    drop(here, "b.json", {"task": "run.a", "id": ident(2), "after": [ident(1)]})
    here.run(600 * SECOND)
    assert tasks_of(here) == [3]


NODES = frozenset({"n1", "n2"})


def of_two() -> tuple[World, Intake]:
    """What one of two nodes has to look at incoming/."""
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    intake.node = "n1"
    intake.among(NODES)
    return here, intake


def names_for(node: str) -> Iterator[str]:
    """Names of files that this node of the two takes first."""
    names = (f"{n:03}.json" for n in range(1000))
    return (name for name in names if share.first(name[:32], NODES) == node)


def test_a_task_that_another_node_has_packed_meanwhile_is_known() -> None:
    here, intake = of_two()
    names = names_for("n1")

    def dropped() -> Submit:
        name = next(names)
        drop(here, name, {"task": "run.a", "id": ident(1)})
        intake.ring()
        (event,) = intake.look(here.now())
        here.disk.remove(f"{layout.INCOMING}/{name}")
        assert isinstance(event, Arrived)
        assert isinstance(event.request, Submit)
        return event.request

    (task,) = dropped().tasks
    folder = f"{layout.PACKED}/{date_of(id_time(ident(1)))}"
    here.disk.make_dir(folder)
    here.disk.write(f"{folder}/2027-01-01.1.ids", f"{ident(1)} {task.digest}\n".encode())
    assert dropped().tasks == ()


def test_nothing_waits_for_a_task_of_which_only_the_id_is_kept() -> None:
    """How it ended is not known any more: what waits for it would wait for ever."""
    here = world()
    folder = f"{layout.PACKED}/{date_of(id_time(ident(1)))}"
    here.disk.make_dir(folder)
    here.disk.write(f"{folder}/2027-01-01.1.ids", f"{ident(1)} {'0' * 32}\n".encode())
    drop(here, "a.json", {"task": "run.a", "after": [ident(1)]})
    wait(1)(here)
    assert {path.split("/")[-1] for path in here.disk.walk(layout.REJECTED)} >= {"a.json"}
    assert tasks_of(here) == []


def test_a_verb_waits_while_its_task_is_left_to_another_node() -> None:
    here, intake = of_two()
    drop(here, next(names_for("n2")), {"task": "run.a", "id": ident(1)})
    drop(here, next(names_for("n1")), {"action": "cancel", "ids": [ident(1)]})
    drop(here, "zzz.json", {"action": "cancel", "ids": [ident(2)]})
    found = []
    for _ in range(30):
        intake.ring()
        found += intake.look(here.now())
        here.pass_time(SECOND // 4)
    kinds = [type(event) for event in found if event.source.path != f"{layout.INCOMING}/zzz.json"]
    assert kinds[:2] == [Arrived, Arrived]
    assert Invalidated not in kinds
    assert any(isinstance(event, Invalidated) for event in found)  # what nobody knows of


@pytest.fixture
def zoe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every signature is good, and hers."""
    monkeypatch.setattr(Signatures, "_verified", lambda *_: ("zoe", "her key"))
    monkeypatch.setattr(Signatures, "name", "here")


def signed(here: World, doc: dict[str, Any]) -> dict[str, Any]:
    times = {"created": format_utc(here.wall), "expires": format_utc(here.wall + 3600 * SECOND)}
    text = orjson.dumps({"spool": "here", **times, **doc}).decode()
    return {"signed": text, "signature": "-----BEGIN SSH SIGNATURE-----"}


@pytest.mark.usefixtures("zoe")
def test_a_verb_waits_while_its_task_waits_for_its_signature_to_be_verified() -> None:
    here = World()
    intake = Intake(here.disk, load(here.settings), ZoneInfo("UTC"))
    for n in range(5 * AT_ONCE):
        drop(here, f"{n:03}.json", signed(here, {"task": "run.a", "meta": {"n": n}}))
    drop(here, "100.json", signed(here, {"task": "run.a", "id": ident(1)}))
    drop(here, "101.json", {"action": "cancel", "ids": [ident(1)]})
    found = []
    for _ in range(7):
        found += (new := intake.look(here.now()))
        for event in new:
            here.disk.remove(event.source.path)
        here.pass_time(SECOND)
    assert [type(event) for event in found] == [Arrived] * (5 * AT_ONCE + 2)


@pytest.mark.usefixtures("zoe")
def test_a_signed_action_waits_until_there_is_room_to_write_down_that_it_counts() -> None:
    here = World()
    here.boot(wrap=lambda disk: FailingOn(disk, ".json", of=layout.SIGNED))
    drop(here, "a.json", signed(here, {"task": "run.a", "id": ident(1), "at": "+1h"}))
    here.run(SECOND)
    assert tasks_of(here) == [1]


@pytest.mark.usefixtures("zoe")
def test_a_signed_verb_counts_on_the_node_that_runs_its_task() -> None:
    here = World(nodes=2, lease=10)
    for node in NODES:
        here.boot(node)
    here.run(30 * SECOND)
    drop(here, "a.json", {"task": "order.a", "id": ident(1)})
    here.run(3 * SECOND)
    ((path, _),) = look.entries(here.disk, (layout.RUNNING,))
    (other,) = NODES - {path.split("/")[1]}
    drop(here, next(names_for(other)), signed(here, {"action": "cancel", "ids": [ident(1)]}))
    here.run(10 * SECOND)
    assert [path.split("/")[0] for path, _ in look.entries(here.disk, layout.STATES)] == ["cancelled"]


def places(here: World) -> list[tuple[str, int]]:
    found = look.entries(here.disk, layout.STATES)
    return sorted((path.split("/")[0], int(entry.id[-6:], 16)) for path, entry in found)


def refused(here: World) -> list[str]:
    days = [f"{layout.REJECTED}/{day}" for day in here.disk.names(layout.REJECTED)]
    return [n for day in days for n in here.disk.names(day) if not n.endswith(".reason.json")]


def test_of_an_action_that_there_is_no_room_for_no_task_comes_in() -> None:
    here = World()
    here.boot(wrap=lambda disk: FailingOn(disk, f".{ident(2)}.task"))
    later: dict[str, Any] = {"task": "run.a", "at": "+1h"}
    picky = {**later, "id": ident(2), "key": "k", "on_duplicate": "reject"}
    drop(here, "a.json", {"tasks": [{**later, "id": ident(1)}, picky, {**later, "id": ident(3)}]})
    drop(here, "b.json", {**later, "id": ident(4), "key": "k"})
    here.turn()
    assert tasks_of(here) == [4]
    here.run(60 * SECOND)
    assert (tasks_of(here), refused(here)) == ([4], ["a.json"])


def test_a_verb_does_not_wait_for_a_task_that_its_writer_took_back() -> None:
    here = World()
    here.boot(wrap=lambda disk: FailingOn(disk, f".{ident(1)}.task"))
    for n in (2, 1):
        drop(here, f"{n}.json", {"task": "run.a", "id": ident(n), "at": "+1h"})
        here.turn()
    here.disk.remove(f"{layout.INCOMING}/1.json")
    drop(here, "a.json", {"action": "cancel", "ids": [ident(1), ident(2)]})
    here.run(10 * SECOND)
    assert places(here) == [("cancelled", 2)]
    assert refused(here) == ["a.json"]  # of the other one nobody knows


def test_a_verb_waits_while_its_task_waits_for_a_key() -> None:
    """Another node is about to take it, and then does not."""
    here = world()
    doc: dict[str, Any] = {"task": "run.a", "id": ident(1), "at": "+1h", "key": "k"}
    other = interpret(
        {**doc, "id": ident(2)}, now=here.wall, dropped=here.wall, zone=ZoneInfo("UTC"), uid=0
    )
    assert isinstance(other, Submit)
    here.disk.make_dir(layout.KEY_LOCKS)
    here.disk.write("tmp/.other", keys.encode(other.tasks[0], "n2"))
    here.disk.link("tmp/.other", layout.key(mark_of("k", None)))
    drop(here, "a.json", doc)
    drop(here, "b.json", {"action": "cancel", "ids": [ident(1)]})
    here.run(2 * SECOND)
    assert places(here) == []
    here.disk.remove("tmp/.other")
    here.run(2 * SECOND)
    assert (places(here), refused(here)) == ([("cancelled", 1)], [])


def test_a_verb_on_a_task_that_another_node_claims_meanwhile_is_refused() -> None:
    here = World(nodes=2, lease=10)
    one, two = here.boot("n1"), here.boot("n2")
    here.run(30 * SECOND)
    drop(here, "a.json", {"task": "order.a", "id": ident(1), "at": "+5s"})
    here.run(3 * SECOND)
    name = next(names_for("n1"))
    drop(here, name, {"action": "hold", "ids": [ident(1)]})

    def claimed() -> None:
        here.pass_time(5 * SECOND)
        for _ in range(5):
            two.turn()
        assert places(here) == [("running", 1)]

    below = one.disk.disk
    one.disk.swap(BeforeMove(below, layout.PENDING, claimed))
    for _ in range(3):
        one.turn()
    one.disk.swap(below)
    here.run(3 * SECOND)
    assert (places(here), refused(here)) == ([("running", 1)], [name])


class BeforeMove(Wrapper):
    """Something happens just before the first file is moved away from a place."""

    def __init__(self, disk: Any, place: str, act: Callable[[], None]) -> None:
        super().__init__(disk)
        self.place = place
        self.act: Callable[[], None] | None = act

    def before(self, verb: str, args: tuple[Any, ...]) -> None:
        if verb == "move" and args[0].startswith(self.place) and self.act is not None:
            act, self.act = self.act, None
            act()


class Strangers:
    """Nobody is trusted."""

    def who(self, uid: int, key: str | None, mono: int, *, strict: bool = True) -> Who:
        del mono, strict
        return Who(uid, str(uid), (), key)


def of_strangers(rules: str) -> World:
    here = World(more=f'|\n[policy."*"]\ntasks = ["run.a"]\nahead = "2h"\n{rules}')
    host = here.boot()
    host.intake.crowd = Crowd(host.disk, Strangers(), host.settings)  # type: ignore[arg-type]
    return here


@pytest.mark.parametrize("name", ["a{}.json", "a{}.txt", "a{}"])
def test_what_is_not_ready_neither_keeps_spoold_busy_nor_what_stands_behind_it(name: str) -> None:
    here = World()
    settings = load(here.settings)
    crowd = Crowd(here.disk, Strangers(), settings)  # type: ignore[arg-type]
    intake = Intake(here.disk, settings, ZoneInfo("UTC"), crowd)
    for n in range(3 * KEPT):
        here.writers.put(b'{"task":', name=name.format(n))
    drop(here, "z.json", {"task": "run.a"})
    for again in range(2):
        found, looks = [], 0
        intake.ring()
        while intake.busy:
            for event in intake.look(here.now()):
                here.disk.remove(event.source.path)
                found.append(event.source.path)
            looks += 1
            assert looks < 100
        assert found == ["incoming/z.json"] * (not again)
    here.pass_time(DAY_US + SECOND)
    intake.ring()
    refused = [event for _ in range(60) for event in intake.look(here.now())]
    assert refused
    assert all(isinstance(event, Invalidated) for event in refused)


def test_who_is_over_his_rate_goes_on_without_another_look_at_all_that_lies_there() -> None:
    here = of_strangers("rate = 60")
    (host,) = here.hosts.values()
    assert host.intake.crowd is not None
    for n in range(FIRST + 20):
        drop(here, f"{n:02}.json", {"task": "run.a", "id": ident(n)})
    here.run(SECOND)
    assert host.intake.crowd.held >= 18
    before = host.intake.crowd.listing
    here.run(15 * SECOND)
    assert host.intake.crowd.held < 6
    assert host.intake.crowd.listing - before < 3


def test_who_had_no_turn_in_one_round_is_the_first_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    here = World()
    for n in range(5):
        drop(here, f"{n}.json", {"task": "run.a"})
    found, turns = handed.info, []
    monkeypatch.setattr(handed, "info", lambda disk, path: replace(found(disk, path), uid=int(path[-6])))
    monkeypatch.setattr(rights, "turn_of", lambda _, who: who.uid)
    monkeypatch.setattr("spoold.sources.crowd.SLICE", 3)
    crowd = Crowd(here.disk, Strangers(), load(here.settings))  # type: ignore[arg-type]
    for _ in range(3):
        crowd.ring()  # there is always more
        while not (batch := crowd.batch(here.now(), ())):
            pass
        turns += [uid for uid, _ in batch]
    assert turns == [0, 1, 2, 3, 4, 0, 1, 2, 3]


def test_directories_in_incoming_go_when_they_are_empty_and_are_told_when_they_are_not() -> None:
    here = of_strangers("")
    (host,) = here.hosts.values()
    crowd = host.intake.crowd
    assert crowd is not None
    for name in ("incoming/empty", "incoming/full/x", "tmp/empty"):
        here.disk.make_dir(name)
    here.run(30 * SECOND)
    assert (here.disk.names("incoming"), crowd.told) == (["empty", "full"], {})
    here.run(90 * SECOND)
    assert (here.disk.names("incoming"), here.disk.names("tmp")) == (["full"], [])
    assert list(crowd.told) == ["incoming"]
    here.disk.remove_dir("incoming/full/x")
    here.run(180 * SECOND)
    assert (here.disk.names("incoming"), crowd.told) == ([], {})


def test_nothing_waits_for_a_task_that_is_not_allowed() -> None:
    here = of_strangers("")
    drop(here, "a.json", {"task": "run.b", "id": ident(1)})
    drop(here, "b.json", {"task": "run.a", "id": ident(2), "after": [ident(1)]})
    here.run(60 * SECOND)
    assert (tasks_of(here), sorted(refused(here))) == ([], ["a.json", "b.json"])


@pytest.mark.parametrize("may", [False, True])
def test_nobody_passes_what_was_dropped_before_without_a_right_to(*, may: bool) -> None:
    here = of_strangers("front = true\nverbs = ['move', 'hold']" if may else "verbs = ['move', 'hold']")
    here.pass_time(60 * SECOND)
    drop(here, "0.json", {"task": "run.a", "id": ident(1), "at": "+1h"})
    drop(here, "1.json", {"tasks": [{"task": "run.a", "id": ident(2), "at": EARLY}]})
    drop(here, "2.json", {"action": "hold", "ids": [ident(2)]})
    drop(here, "3.json", {"task": "run.a", "id": ident(3), "position": "front", "at": "+1h"})
    drop(here, "4.json", {"action": "move", "ids": [ident(1)], "position": "front"})
    here.run(SECOND)
    assert sorted(refused(here)) == ([] if may else ["3.json", "4.json"])
    drop(here, "5.json", {"action": "move", "ids": [ident(1)], "position": "back"})
    drop(here, "6.json", {"action": "hold", "ids": [ident(1)]})
    drop(here, "7.json", {"action": "move", "ids": [ident(1)], "at": EARLY})
    here.run(SECOND)
    times = {entry.id: entry.time for _, entry in look.entries(here.disk, ("held", "done"))}
    assert [times[ident(n)] < START for n in (1, 2)] == [may, may]
    if not may:
        assert times[ident(1)] > times[ident(2)] > START + 60 * SECOND


def test_who_may_go_ahead_with_some_tasks_passes_nobody_with_others() -> None:
    """One rule must allow it as a whole."""
    here = of_strangers(
        "verbs = ['move']\n[policy.'user:1000']\ntasks = ['run.b']\nverbs = []\nfront = true"
    )
    here.pass_time(60 * SECOND)
    early = [
        {"task": "run.a", "id": ident(1), "at": EARLY},
        {"task": "run.b", "id": ident(2), "at": EARLY},
    ]
    drop(here, "0.json", {"tasks": [*early, {"task": "run.a", "id": ident(3), "at": "+1h"}]})
    drop(here, "1.json", {"action": "move", "ids": [ident(3)], "at": EARLY})
    here.run(SECOND)
    times = {entry.id: entry.time for _, entry in look.entries(here.disk, layout.STATES)}
    assert ([times[ident(n)] < START for n in (1, 2, 3)], refused(here)) == ([False, True, False], [])


def test_what_is_refused_has_replaced_nothing() -> None:
    here = of_strangers('verbs = ["cancel"]')
    later: dict[str, Any] = {"task": "run.a", "at": "+1h"}
    for n, key in ((1, "a"), (2, "b")):
        drop(here, f"{n}.json", {**later, "id": ident(n), "key": key})
    here.run(SECOND)
    new = {**later, "id": ident(3), "key": "a", "on_duplicate": "replace"}
    late = {**later, "id": ident(4), "key": "b", "on_duplicate": "extend", "at": "+90m"}
    drop(here, "3.json", {"tasks": [new, late]})  # to put off is a move, which he may not
    here.run(SECOND)
    assert (places(here), refused(here)) == ([("pending", 1), ("pending", 2)], ["3.json"])


def test_what_comes_again_takes_no_room_in_a_full_queue() -> None:
    settings, who = load(('|\n[policy."*"]\ntasks = ["run.a"]\nwaiting = 1', 400)), Who(7, "zoe")
    assert not rights.why_not_submit(settings, who, (), 0, 2)


@pytest.mark.parametrize("ms", range(0, 10_000, 1700))
def test_a_schedule_stays_though_another_node_sets_the_next_one(ms: int) -> None:
    here = World(nodes=2, lease=5)
    for node in NODES:
        here.boot(node)
    here.run(30 * SECOND + ms * 1000)
    first = here.up()[0].state.leader
    doc = {"action": "schedule", "name": "a", "table": {"every": "@yearly", "task": "run.a"}}
    drop(here, next(names_for(first)), doc)
    here.up()[0].turn()
    here.up()[1].turn()
    here.stop(first)
    drop(here, "b.json", {**doc, "name": "b"})
    for _ in range(100):
        here.run(SECOND // 10)  # no faster: their watch over each other counts
    assert set(daemons.read_schedules(here.disk)) == {"a", "b"}


def kept(here: World, kind: str) -> set[str]:
    if kind == "schedule":
        return set(daemons.read_schedules(here.disk))
    return {str(row["task"]) for row in daemons.read_pauses(here.disk)}


def asked_for(kind: str, name: str) -> dict[str, Any]:
    if kind == "schedule":
        return {"action": kind, "name": name, "table": {"every": "@yearly", "task": "run.a"}}
    return {"action": kind, "task": name}


KINDS = pytest.mark.parametrize("kind", ["schedule", "pause"])


@pytest.fixture
def slow_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that look seldom whether another one has paused something."""
    monkeypatch.setattr(Host, "_rows_of_others", lambda _: [])


@KINDS
@pytest.mark.usefixtures("slow_to_look")
def test_what_a_leader_that_leaves_has_paused_or_set_stays(kind: str) -> None:
    here = World(nodes=2, lease=5)
    for node in NODES:
        here.boot(node)
    here.run(30 * SECOND)
    first = here.up()[0].state.leader
    drop(here, next(names_for(first)), asked_for(kind, "run.a"))
    here.up()[0].turn()
    here.up()[1].turn()
    here.stop(first)
    drop(here, "b.json", asked_for(kind, "run.b"))
    for _ in range(100):
        here.run(SECOND // 10)
    assert kept(here, kind) == {"run.a", "run.b"}


@KINDS
@pytest.mark.usefixtures("slow_to_look")
def test_what_the_old_leader_does_before_it_sees_the_new_one_stays(kind: str) -> None:
    here = World(nodes=2, lease=20)
    joins = share.first("", NODES)
    (leads,) = NODES - {joins}
    old = here.boot(leads)
    here.run(30 * SECOND)
    new = here.boot(joins)
    assert old.neighbours is not None
    old.neighbours._next_look = old.neighbours.clock() + SECOND
    drop(here, next(names_for(leads)), asked_for(kind, "run.a"))
    old.turn()
    assert kept(here, kind) == {"run.a"}
    drop(here, next(names_for(joins)), asked_for(kind, "run.b"))
    for _ in range(3):
        new.turn()
    for _ in range(100):
        here.run(SECOND // 10)
    assert kept(here, kind) == {"run.a", "run.b"}


def test_a_file_that_comes_with_a_task_is_that_of_the_action_that_is_taken_in() -> None:
    """An earlier one found no room, and its writer took it back."""
    here = World()
    here.boot(wrap=lambda disk: FailingOn(disk, f".{ident(1)}.task"))
    for name, data in (("a.json", b"old"), ("b.json", b"new")):
        here.disk.write("tmp/.f", data)
        here.disk.move("tmp/.f", layout.given(ident(1), "f"))
        drop(here, name, {"task": "run.a", "id": ident(1), "at": "+1h", "files": ["f"]})
        here.turn()
        if here.disk.info(f"{layout.INCOMING}/a.json") is not None:
            here.disk.remove(f"{layout.INCOMING}/a.json")
    here.run(SECOND)
    assert tasks_of(here) == [1]
    assert here.disk.read(f"{layout.files(ident(1))}/f", 9) == b"new"
    assert here.disk.names(layout.TMP) == []


@pytest.mark.parametrize("verb", ["link", "write"])
def test_files_of_a_task_that_found_no_room_stay_where_its_writer_put_them(verb: str) -> None:
    """It is refused in the end: another one has its key by then."""
    here = World()
    here.boot(wrap=lambda disk: Failing(disk, (verb,), {"link": 2, "write": 2}[verb], errno.ENOSPC))
    for name in ("f", "g"):
        here.disk.write(layout.given(ident(1), name), b"some")
    one = {"task": "run.a", "id": ident(1), "at": "+1h", "key": "k", "files": ["f", "g"]}
    drop(here, "a.json", {**one, "on_duplicate": "reject"})
    here.turn()
    assert here.disk.info(layout.files(ident(1))) is None
    assert all(here.disk.info(layout.given(ident(1), name)) for name in ("f", "g"))


def test_an_attempt_that_is_being_ended_takes_no_more_time() -> None:
    here = world()
    submit({"task": "run.a", "n": 1, "run": [["never", 0]], "timeout": 3})(here)
    (host,) = here.up()
    while not any(run.ending for run in host.state.runs.values()):
        here.run(SECOND // 10)
    drop(here, "a.json", {"action": "extend", "id": ident(1), "attempt": 1, "by": "1m"})
    here.run(SECOND)
    assert refused(here) == ["a.json"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"task": "run.a", "run": [["never", 0]]}, "took longer than 14 d"),
        ({"task": "order.a"}, "no word from shop within 14 d"),
    ],
)
def test_a_time_that_was_long_is_told_in_words(task: dict[str, Any], words: str) -> None:
    here = world()
    submit({**task, "n": 1, "timeout": "14d", "retries": 0})(here)
    wait(1)(here)
    here.pass_time(14 * DAY_US)
    wait(30)(here)
    assert look.records(here.disk, ident(1))[0]["error"]["message"] == words


@pytest.mark.parametrize("word", [True, False], ids=["ack", "nothing"])
def test_a_parent_keeps_its_attempt_though_a_handler_for_it_came_before_a_restart(*, word: bool) -> None:
    here = world()
    submit({"task": "later.a", "n": 1, "notify": "cook", "timeout": "40s"})(here)
    here.run(SECOND)
    assert places(here) == [("running", 1)]
    here.stop("n1")
    here.settings = (f"{here.settings[0]}|{LATE_HANDLER}", here.settings[1])
    here.boot()
    if word:
        drop(here, "a.json", {"action": "ack", "id": ident(1), "attempt": 1})
    here.run((1 if word else 60) * SECOND)
    assert (places(here), refused(here)) == ([("done", 1)], [])


@pytest.mark.parametrize(("by", "seconds"), [(0, 60), (1800, 2000)], ids=["as it was", "extended"])
def test_a_parent_has_no_more_time_where_a_daemon_began_while_the_clock_was_back(
    by: int, seconds: int
) -> None:
    here = world()
    submit({"task": "order.a", "n": 1})(here)
    here.run(SECOND)
    if by:
        drop(here, "a.json", {"action": "extend", "id": ident(1), "attempt": 1, "by": by})
        here.run(SECOND)
    here.crash()
    here.step_clock(-3 * 3600 * SECOND)
    here.boot()
    here.turn()
    here.step_clock(3 * 3600 * SECOND)
    here.run((by or 30) * SECOND)
    assert places(here) == [("running", 1)]
    here.run((seconds - by) * SECOND)
    assert look.records(here.disk, ident(1))[0]["outcome"] == "lost"


@pytest.mark.parametrize("others", [0, 2 * SLICE])
def test_an_answer_that_came_while_no_daemon_ran_counts_though_its_time_is_over(others: int) -> None:
    here = world()
    submit({"task": "order.a", "n": 1})(here)
    wait(1)(here)
    here.crash()
    for n in range(others):
        drop(here, f"a{n:04}.json", {"task": "run.a", "at": "+1h"})
    say("ack", 1, 1, result=7)(here)
    here.pass_time(3600 * SECOND)
    here.boot()
    wait(30)(here)
    records = look.records(here.disk, ident(1))
    assert [(one["event"], one["result"]) for one in records] == [("done", 7)]


@pytest.mark.parametrize("old", [1, 7], ids=["of a task here", "of one elsewhere"])
def test_what_repeats_another_task_and_brings_files_of_its_own_gets_those(old: int) -> None:
    here = world()
    here.disk.write(layout.given(ident(1), "f"), b"old")
    drop(here, "a.json", {"task": "run.a", "id": ident(1), "files": ["f"]})
    wait(3)(here)
    here.disk.write(layout.given(ident(2), "f"), b"new")
    drop(here, "b.json", {"task": "run.a", "id": ident(2), "files": ["f"], "replay_of": ident(old)})
    wait(3)(here)
    assert here.disk.read(f"{layout.files(ident(2))}/f", 9) == b"new"
    assert not here.disk.names(layout.TMP)


def test_a_replay_of_what_has_lost_its_files_is_refused() -> None:
    here = world()
    here.disk.write(layout.given(ident(1), "f"), b"old")
    drop(here, "a.json", {"task": "run.a", "id": ident(1), "files": ["f"]})
    wait(3)(here)
    here.disk.remove(f"{layout.files(ident(1))}/f")
    drop(here, "b.json", {"action": "replay", "ids": [ident(1)]})
    wait(3)(here)
    assert not here.disk.names(layout.INCOMING)
    assert [name for name in invariants.events_on_disk(here) if "rejected" in name], tasks_of(here)


@pytest.mark.parametrize("year", [1970, 2150])
def test_a_task_that_came_while_the_clock_was_wrong_can_be_told_of_by_its_id(year: int) -> None:
    here = World()
    here.step_clock((year - 1970) * 365 * DAY_US - here.wall)
    here.boot()
    drop(here, "a.json", {"task": "later.a"})  # which nothing runs
    wait(1)(here)
    ((_, entry),) = look.entries(here.disk, layout.STATES)
    drop(here, "b.json", {"action": "cancel", "ids": [entry.id]})
    wait(1)(here)
    assert [path.split("/")[0] for path, _ in look.entries(here.disk, layout.STATES)] == ["cancelled"]


def test_what_came_while_the_clock_was_ahead_says_so_and_can_be_moved_to_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = World()
    here.step_clock(DAY_US)
    here.boot()
    drop(here, "a.json", {"action": "pause"})
    wait(1)(here)
    drop(here, "b.json", {"task": "run.a"})
    wait(1)(here)
    drop(here, "c.json", {"action": "resume"})
    here.step_clock(-DAY_US)
    wait(60)(here)
    assert caplog.text.count("the clock was set back by") == 1
    ((path, entry),) = look.entries(here.disk, layout.STATES)
    view = task_view(look.at(here.disk, path), [])
    assert "set back since" in Why(here.disk, str(tmp_path), here.wall, str).line(view)
    assert "set back since" not in Why(here.disk, str(tmp_path), here.wall + DAY_US, str).line(view)
    match = {"since": "+0s", "until": "+1d"}
    drop(here, "d.json", {"action": "move", "match": match, "at": "+0s"})
    wait(60)(here)
    assert look.find(here.disk, entry.id).state == "done"  # type: ignore[union-attr]


@pytest.mark.parametrize(("miss", "ends"), [("drop", "cancelled"), ("fail", "failed")])
def test_of_more_deadlines_than_memory_has_room_for_none_that_has_passed_starts(
    miss: str, ends: str
) -> None:
    here = World()
    here.boot()
    drop(here, "a.json", {"action": "pause"})
    wait(1)(here)
    one = {"task": "run.a", "priority": "high", "deadline": "+5s", "on_miss": miss}
    drop(here, "b.json", {"tasks": [one] * 300})
    wait(1)(here)
    here.crash("n1")
    here.pass_time(10 * SECOND)
    here.boot()
    drop(here, "c.json", {"action": "resume"})
    wait(30)(here)
    assert {path.split("/")[0] for path, _ in look.entries(here.disk, layout.STATES)} == {ends}


@pytest.mark.parametrize("ahead", [0, 30 * SECOND], ids=["behind", "what was known is old"])
def test_durations_count_from_the_drop_by_the_file_servers_clock(ahead: int) -> None:
    here, intake = of_two()
    dropped = here.wall
    drop(here, "a.json", {"task": "run.a", "at": "+15s", "deadline": "+20s"})
    drop(here, "b.json", {"task": "run.b"})
    slow = Now(here.wall - (0 if ahead else 30 * SECOND), here.now().mono)
    intake.behind_server = lambda: -ahead or 30 * SECOND
    intake.peers = frozenset()
    events = intake.look(slow)
    found = {t.task: t for e in events if isinstance(e, Arrived) for t in e.request.tasks}  # type: ignore[union-attr]
    assert (found["run.a"].at, found["run.a"].deadline) == (dropped + 15 * SECOND, dropped + 20 * SECOND)
    assert found["run.b"].at <= slow.wall  # which waits for nothing
