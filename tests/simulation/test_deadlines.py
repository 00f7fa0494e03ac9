"""Deadlines in a simulated daemon: told once, of what is held too; what they lift, and another takes back."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from spool import layout, look
from spoold.core import share
from spoold.core.decide import decide
from spoold.core.values import Brought
from tests.crash.scenarios import ident, submit
from tests.simulation import invariants
from tests.simulation.faults import Crash, Dying, Failing, Hooked
from tests.simulation.world import SECOND, World

if TYPE_CHECKING:
    from spool.names import Entry
    from tests.simulation.host import Host

GROWS = ("write", "append", "move", "link", "make_dir")  # what needs room
LIFTED = {"task": "run.a", "n": 1, "at": "+1h", "priority": "low", "deadline": "+61m", "lead": "2h"}


def world(**more: Any) -> World:
    made = World(**more)
    made.boot()
    return made


def entry(made: World, number: int = 1) -> Entry:
    """Where a task stands now."""
    (found,) = [e for _, e in look.entries(made.disk, layout.STATES) if e.id == ident(number)]
    return found


def asks(made: World, **doc: Any) -> None:
    """An action about the first task is carried out."""
    made.writers.drop({"ids": [ident(1)], **doc})
    made.run(SECOND)


def lifted() -> World:
    made = world()
    submit(LIFTED)(made)
    made.run(SECOND)
    assert (entry(made).prio, entry(made).base, entry(made).lifted) == ("high", "low", 1)
    return made


@pytest.mark.parametrize("held", [False, True], ids=["pending", "held"])
def test_a_deadline_that_is_put_off_takes_the_lift_back_and_lifts_again_when_it_is_near(
    *, held: bool
) -> None:
    made = lifted()
    if held:
        asks(made, action="hold")
    asks(made, action="move", deadline="+5h")
    assert (entry(made).prio, entry(made).base, entry(made).lifted) == ("low", "low", 0)
    asks(made, action="release")
    asks(made, action="move", at="+4h")
    assert entry(made).prio == "low"
    made.run(3 * 3600 * SECOND + SECOND)
    assert (entry(made).prio, entry(made).base, entry(made).lifted) == ("high", "low", 1)


def test_what_somebody_moved_to_high_stays_there_when_its_deadline_is_put_off() -> None:
    made = lifted()
    asks(made, action="move", priority="high")
    asks(made, action="move", deadline="+300d")
    assert (entry(made).prio, entry(made).base, entry(made).lifted) == ("high", "high", 0)


def test_what_failed_after_its_lift_keeps_its_class_when_its_deadline_is_put_off() -> None:
    made = world()
    fails = {"run": [["1", 1]], "backoff": "1d", "retries": 3}
    submit({**LIFTED, **fails, "at": "+0s"})(made)
    made.run(5 * SECOND)
    assert (entry(made).prio, entry(made).base, entry(made).fails) == ("medium", "low", 1)
    asks(made, action="move", deadline="+300d")
    assert (entry(made).prio, entry(made).base, entry(made).lifted) == ("medium", "low", 0)


# Held past its deadline.


def handlers(made: World) -> None:
    """There is a handler for what had none."""
    made.learn()
    for host in made.up():
        host.reload()


def release(made: World) -> None:
    made.writers.drop({"action": "release", "ids": [ident(1)]})


def asked(made: World, doc: dict[str, Any]) -> None:
    submit({**doc, "at": "+1s"})(made)
    made.writers.drop({"action": "hold", "ids": [ident(1)]})


def after(made: World, doc: dict[str, Any]) -> None:
    submit({"task": "run.a", "n": 2, "run": [["ok", 60]]}, batch=False)(made)
    submit({**doc, "after": [ident(2)]})(made)


def unbound(made: World, doc: dict[str, Any]) -> None:
    submit({**doc, "task": "later.a"})(made)


def poison(made: World, doc: dict[str, Any]) -> None:
    submit({**doc, "run": [["crash", 1]] * 3})(made)


def none(_: World) -> None:
    """It goes on by itself."""


HOLDS = {
    "asked": (asked, release),
    "after": (after, none),
    "no-handler": (unbound, handlers),
    "poison": (poison, release),
}
ENDS = {"run": ("held", "done"), "drop": ("cancelled", "cancelled"), "fail": ("failed", "failed")}
WAITS: dict[str, Any] = {"task": "run.a", "n": 1, "deadline": "+20s", "priority": "low"}


def told(made: World, number: int = 1) -> list[str]:
    """The events about a task by now."""
    made.parents.read()
    found = [(k[2], len(e)) for k, e in made.watch.told.items() if k[0] == ident(number)]
    return [event for event, many in found for _ in range(many) if event in (*layout.ENDED, "late")]


def state(made: World, number: int = 1) -> str:
    (found,) = [p for p, e in look.entries(made.disk, layout.STATES) if e.id == ident(number)]
    return found.split("/")[0]


@pytest.mark.parametrize("miss", ENDS)
@pytest.mark.parametrize("why", HOLDS)
def test_a_deadline_that_passes_while_a_task_is_held_is_told_then_and_never_again(
    why: str, miss: str
) -> None:
    hold, go_on = HOLDS[why]
    made = world()
    hold(made, {**WAITS, "on_miss": miss})
    made.run(15 * SECOND)
    assert (state(made), entry(made).why, told(made)) == ("held", why, [])
    made.run(6 * SECOND)
    then, at_last = ENDS[miss]
    assert (state(made), entry(made).lifted) == (then, 2)
    assert told(made) == ["late", *([then] if then != "held" else [])]
    if miss == "run":
        assert (entry(made).why, entry(made).prio, entry(made).base) == (why, "high", "low")
    go_on(made)
    made.run(60 * SECOND)
    assert state(made) == at_last
    made.drain()
    invariants.at_end(made)
    assert told(made) == ["late", at_last]


@pytest.mark.parametrize("again", [5, 15, 25, 45], ids="after {} s".format)
def test_what_is_held_is_told_late_once_whenever_the_daemon_is_started_again(again: int) -> None:
    made = world()
    asked(made, WAITS)
    made.run(again * SECOND)
    made.crash()
    made.pass_time(10 * SECOND)
    made.boot()
    made.run(30 * SECOND)
    assert (state(made), told(made)) == ("held", ["late"])
    release(made)
    made.run(30 * SECOND)
    assert told(made) == ["late", "done"]


@pytest.mark.parametrize("lease", [0, 10], ids=["alone", "with a lease"])
@pytest.mark.parametrize("hold", [asked, after, submit], ids=["asked", "after", "pending"])
@pytest.mark.parametrize("miss", ENDS)
def test_wherever_the_daemon_dies_it_is_told_once(hold: Any, miss: str, lease: int) -> None:
    for number in range(40):
        made = world(lease=lease)
        made.writers.drop({"action": "pause", "task": "run.*"})
        doc = {**WAITS, "on_miss": miss}
        hold(made, doc) if hold is not submit else submit(doc)(made)
        made.run(15 * SECOND)
        made.pass_time(6 * SECOND)
        (host,) = made.up()
        dying = Dying(made.disk, number)
        host.disk.swap(dying)
        with suppress(Crash):
            for _ in range(8):
                host.turn()
        host.disk.swap(made.disk)
        made.crash()
        made.boot()
        made.run(5 * SECOND)
        assert (state(made), told(made)[:1], told(made).count("late")) == (
            ENDS[miss][0] if hold is not submit or miss != "run" else "pending", ["late"], 1
        ), number  # fmt: skip
        if dying.left > 0:
            break
    assert number > 4


@pytest.mark.parametrize("hold", [asked, after, submit], ids=["asked", "after", "pending"])
@pytest.mark.parametrize("miss", ENDS)
def test_of_two_nodes_one_tells(hold: Any, miss: str) -> None:
    """Both know of it, for the second began later; it has its turns before any write of the first."""
    for number in range(14):
        made = world(nodes=2, lease=10)
        made.writers.drop({"action": "pause", "task": "run.*"})
        doc = {**WAITS, "on_miss": miss}
        hold(made, doc) if hold is not submit else submit(doc)(made)
        made.run(5 * SECOND)
        one, two = made.up()[0], made.boot("n2")
        made.run(10 * SECOND)
        made.pass_time(6 * SECOND)

        def meanwhile(two: Host = two) -> None:
            for _ in range(6):
                two.turn()

        one.disk.swap(Hooked(made.disk, number, meanwhile))
        for _ in range(6):
            one.turn()
        one.disk.swap(made.disk)
        made.run(20 * SECOND)
        assert (told(made).count("late"), entry(made).lifted) == (1, 2), number
        assert state(made) == ("pending" if (hold, miss) == (submit, "run") else ENDS[miss][0])


def test_what_only_a_dead_node_knew_to_be_held_is_told_by_another() -> None:
    made = world(nodes=2, lease=10)
    two = made.boot("n2")
    made.run(2 * SECOND)
    nodes = frozenset(("n1", "n2"))
    ours = next(name for n in range(99) if share.first(name := f"c{n}.json", nodes) == "n1")
    doc = {"task": "later.a", "id": ident(1), "deadline": "+20s"}
    made.writers.put(orjson.dumps(doc), name=ours)
    made.run(5 * SECOND)
    assert state(made) == "held"
    assert two.state.overdue.wake() is None
    made.crash("n1")
    made.run(60 * SECOND)
    assert told(made) == ["late"]


def test_of_more_than_memory_has_room_for_each_is_told_and_none_is_looked_for_all_the_time() -> None:
    made = World(window=16)
    host = made.boot()
    scans: list[str] = []
    start = host.core.backlog.start

    def counted(kind: str, *edges: str) -> None:
        scans.append(kind)
        start(kind, *edges)

    host.core.backlog.start = counted  # type: ignore[method-assign]
    numbers = range(1, 13)
    docs = [{"task": "later.a", "n": n, "deadline": f"+{20 + n * 7 % 13}s"} for n in numbers]
    made.run(SECOND)
    submit(*docs)(made)
    made.run(10 * SECOND)
    before = scans.count("held")
    for _ in range(50):
        made.turn()
    assert scans.count("held") == before
    assert len(host.state.overdue.window) == 4
    made.run(60 * SECOND)
    assert [told(made, n) for n in numbers] == [["late"]] * 12
    assert scans.count("held") - before <= 4
    assert len(host.state.overdue.window) == 0


@pytest.mark.parametrize("anew", [False, True])
def test_a_parent_that_does_not_read_is_told_when_it_has(*, anew: bool) -> None:
    made = World(more="outbox_limit = 3")
    made.boot()
    submit(*({"task": "order.a"} for _ in range(3)))(made)
    submit({**WAITS, "task": "later.a", "notify": "shop"})(made)
    made.writers.drop({"action": "hold", "ids": [ident(1)]})
    made.run(30 * SECOND)
    assert (state(made), entry(made).lifted) == ("held", 0)
    for action in ("pause", "resume") if anew else ():  # what waits is read anew, of what is held nothing
        made.writers.drop({"action": action, "task": "none"})
        made.run(SECOND)
    made.parents.read()
    made.run(5 * SECOND)
    assert (told(made), entry(made).lifted) == (["late"], 2)


def test_a_deadline_that_is_put_off_while_it_is_held_is_told_when_it_passes() -> None:
    made = world()
    asked(made, WAITS)
    made.run(10 * SECOND)
    made.writers.drop({"action": "move", "ids": [ident(1)], "deadline": "+30s"})
    made.run(15 * SECOND)
    assert told(made) == []
    made.run(20 * SECOND)
    assert told(made) == ["late"]
    made.writers.drop({"action": "move", "ids": [ident(1)], "deadline": "+30s"})
    made.run(5 * SECOND)
    assert (entry(made).prio, entry(made).lifted) == ("low", 0)
    made.run(30 * SECOND)
    assert told(made) == ["late", "late"]


def test_what_is_told_late_while_a_scan_looks_for_what_may_go_on_goes_on() -> None:
    """The scan has its name from before; what is late in this very turn is known by another since."""
    made = world()
    submit({**WAITS, "task": "py.late"})(made)
    made.run(15 * SECOND)
    assert (state(made), entry(made).why) == ("held", "no-handler")
    (host,) = made.up()
    step, seen = host.core.backlog.step, []

    def slow() -> list[Any]:
        seen.append(step())
        return seen[-2] if len(seen) > 1 else []

    host.core.backlog.step = slow  # type: ignore[method-assign]
    made.learn()
    host.handlers.ready = made.mono
    made.turn()
    made.pass_time(6 * SECOND)
    made.run(20 * SECOND)
    assert (state(made), told(made)) == ("done", ["late", "done"])


def test_what_was_held_when_a_dead_node_was_brought_back_is_looked_for() -> None:
    made = world()
    (host,) = made.up()
    asked(made, WAITS)
    made.run(5 * SECOND)
    assert not host.state.overdue.window.hungry
    decide(host.state, Brought(), made.now())
    assert host.state.overdue.window.hungry
    made.run(30 * SECOND)
    assert told(made) == ["late"]


@pytest.mark.parametrize("miss", ENDS)
def test_a_task_whose_deadline_has_passed_in_this_second_does_not_start_in_time(miss: str) -> None:
    """Its name tells the whole second, rounded up."""
    made = World()
    made.pass_time(SECOND - made.wall % SECOND + SECOND // 4)
    submit({"task": "run.a", "n": 1, "deadline": "+1s", "on_miss": miss})(made)
    made.pass_time(SECOND + SECOND // 4)
    made.boot()
    made.run(SECOND // 8)
    assert told(made)[0] == "late"
    made.run(2 * SECOND)
    ends = ENDS[miss][1]
    assert (state(made), told(made)) == (ends, ["late", ends])


def test_a_deadline_that_passes_within_a_second_while_it_runs_is_told() -> None:
    made = world()
    made.pass_time(SECOND - made.wall % SECOND + SECOND // 4)
    submit({"task": "run.a", "n": 1, "deadline": "+0.2s", "run": [["ok", 0.4]]})(made)
    made.run(SECOND // 2)
    assert told(made) == ["late", "done"]


@pytest.mark.parametrize("redo", [True, False], ids=["log", "no log"])
@pytest.mark.parametrize("at", [2, 0], ids=["waits", "comes in"])
@pytest.mark.parametrize(("miss", "end"), [("drop", "cancelled"), ("fail", "failed")])
def test_what_missed_its_deadline_while_the_disk_was_full_does_not_start(
    miss: str, end: str, at: int, *, redo: bool
) -> None:
    """The disk is full before each step of a start, until the deadline has passed."""
    missed = 0
    for number in range(16):
        made = World(redo=redo)
        host = made.boot()
        made.run(SECOND)
        task = {"task": "run.a", "n": 1, "at": f"+{at}s", "deadline": "+5s", "on_miss": miss}
        if at:
            submit(task)(made)
            made.run(SECOND)
        host.disk.swap(Failing(made.disk, GROWS, number, errno.ENOSPC, None))
        if not at:
            submit(task)(made)
        for _ in range(20):
            made.turn()
            made.pass_time(SECOND // 2)
        before = list(made.watch.starts)
        host.disk.swap(made.disk)
        made.ring()
        made.run(10 * SECOND)
        assert made.watch.starts == before, number
        if not before:
            assert state(made) == end, number
            assert told(made).count("late") == 1, number
            missed += 1
        made.drain()
        invariants.at_end(made)
    assert missed


# Passed while an attempt runs: on_miss decides when that has ended.


@pytest.mark.parametrize("again", [False, True], ids=["goes on", "dies"])
@pytest.mark.parametrize("miss", ENDS)
@pytest.mark.parametrize(
    ("task", "ends", "why"),
    [
        ("run.a", "1", "exit 1: it went wrong"),
        ("py.a", "snooze", "snoozed: it went wrong"),
        ("py.a", "crash", "crashed: it went wrong"),
    ],
    ids=["fails", "snoozes", "crashes"],
)
def test_what_ends_in_vain_after_its_deadline_is_tried_again_only_where_on_miss_is_run(
    task: str, ends: str, why: str, miss: str, *, again: bool
) -> None:
    made = world()
    made.run(2 * SECOND)
    doc = {"task": task, "n": 1, "deadline": "+5s", "on_miss": miss, "backoff": "10s", "retries": 5}
    submit({**doc, "run": [[ends, 10]]})(made)
    made.run(7 * SECOND)
    assert (state(made), told(made)) == ("running", ["late"])
    if again:
        made.crash()
        made.boot()
        why = "lost: "
    made.run(5 * SECOND)
    if miss == "run":
        made.run(20 * SECOND)
        assert (state(made), told(made)) == ("done", ["late", "done"])
    else:
        end = ENDS[miss][1]
        assert (state(made), told(made)) == (end, ["late", end])
        problem = look.records(made.disk, ident(1))[-1]["error"]
        assert problem["type"] == "deadline"
        assert f"its deadline passed after attempt 1: {why}" in problem["message"]
    made.drain()
    invariants.at_end(made)


@pytest.mark.parametrize("miss", ENDS)
def test_what_is_held_as_poison_by_the_attempt_in_which_its_deadline_passed_ends(miss: str) -> None:
    made = world()
    doc = {"task": "run.a", "n": 1, "deadline": "+25s", "on_miss": miss}
    submit({**doc, "run": [["crash", 10]] * 3})(made)
    made.run(28 * SECOND)
    assert (state(made), entry(made).lifted) == ("running", 2)
    made.run(10 * SECOND)
    assert state(made) == ENDS[miss][0]
    if miss == "run":
        release(made)
        made.run(20 * SECOND)
    made.drain()
    invariants.at_end(made)
    assert told(made) == ["late", ENDS[miss][1]]


@pytest.mark.parametrize("miss", ["drop", "fail"])
def test_after_a_retry_past_the_deadline_a_failure_is_retried(miss: str) -> None:
    made = world()
    doc = {"task": "run.a", "n": 1, "deadline": "+5s", "on_miss": miss, "backoff": "1s", "retries": 5}
    submit({**doc, "run": [["1", 10], ["1", 1], ["1", 1]]})(made)
    made.run(15 * SECOND)
    assert state(made) == ENDS[miss][1]
    asks(made, action="retry")
    made.run(20 * SECOND)
    assert (state(made), told(made).count("late")) == ("done", 1)


@pytest.mark.parametrize("miss", ["drop", "fail"])
def test_a_new_deadline_after_a_retry_is_missed_as_the_first_was(miss: str) -> None:
    made = world()
    made.writers.drop({"action": "pause", "task": "run.a"})
    submit({"task": "run.a", "n": 1, "deadline": "+5s", "on_miss": miss})(made)
    made.run(15 * SECOND)
    asks(made, action="retry")
    assert state(made) == "pending"
    asks(made, action="move", deadline="+5s")
    assert state(made) == "pending"
    made.run(20 * SECOND)
    assert (state(made), told(made).count("late")) == (ENDS[miss][1], 2)
