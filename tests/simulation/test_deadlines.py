"""Deadlines in a simulated daemon: what they have lifted, and where another one takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spool import layout, look
from tests.crash.scenarios import ident, submit
from tests.simulation.world import SECOND, World

if TYPE_CHECKING:
    from spool.names import Entry

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
