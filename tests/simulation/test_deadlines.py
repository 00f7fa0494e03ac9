"""Deadlines in a simulated daemon: told once; what they lift, and another takes back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout, look
from tests.crash.scenarios import ident, submit
from tests.simulation.faults import Crash, Dying, Hooked
from tests.simulation.world import SECOND, World

if TYPE_CHECKING:
    from spool.names import Entry
    from tests.simulation.host import Host

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


ENDS = {"run": "pending", "drop": "cancelled", "fail": "failed"}
WAITS: dict[str, Any] = {"task": "run.a", "n": 1, "deadline": "+20s", "priority": "low"}


def told(made: World, number: int = 1) -> list[str]:
    """The events about a task by now."""
    made.parents.read()
    found = [(k[2], len(e)) for k, e in made.watch.told.items() if k[0] == ident(number)]
    return [event for event, many in found for _ in range(many) if event in (*layout.ENDED, "late")]


def state(made: World, number: int = 1) -> str:
    (found,) = [p for p, e in look.entries(made.disk, layout.STATES) if e.id == ident(number)]
    return found.split("/")[0]


@pytest.mark.parametrize("lease", [0, 10], ids=["alone", "with a lease"])
@pytest.mark.parametrize("miss", ENDS)
def test_wherever_the_daemon_dies_it_is_told_once(miss: str, lease: int) -> None:
    for number in range(40):
        made = world(lease=lease)
        made.writers.drop({"action": "pause", "task": "run.*"})
        submit({**WAITS, "on_miss": miss})(made)
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
        events = told(made)
        assert (state(made), events[:1], events.count("late")) == (ENDS[miss], ["late"], 1), number
        if dying.left > 0:
            break
    assert number > 4


@pytest.mark.parametrize("miss", ENDS)
def test_of_two_nodes_one_tells(miss: str) -> None:
    """Both know of it, for the second began later; it has its turns before any write of the first."""
    for number in range(14):
        made = world(nodes=2, lease=10)
        made.writers.drop({"action": "pause", "task": "run.*"})
        submit({**WAITS, "on_miss": miss})(made)
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
        assert state(made) == ENDS[miss]
