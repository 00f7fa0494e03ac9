"""What is due in a moment: read once, before its time, and started at its time without a look at the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from spool.actions import Submit, interpret
from spool.machine import zone_of
from spool.names import new_id
from spool.place import Place
from spool.settings import load
from spoold.core import deadlines
from spoold.core.decide import decide, elapse
from spoold.core.dispatch import dispatch
from spoold.core.soon import LEAD, MOST
from spoold.core.state import State
from spoold.core.submit import take_in
from spoold.core.values import Ask, Looked, Move, Now, Returned, Start
from spoold.effects.store import Store
from spoold.loop import Core
from spoold.sources.backlog import Backlog

if TYPE_CHECKING:
    from spool.disk import RealDisk
    from spool.names import Entry
    from spool.owncopy import Task

T = 1_800_000_000_000_000
DUE = T + 10_000_000


class Some:
    """Tasks that are all due at one time, one us after the other."""

    def __init__(self, number: int) -> None:
        self.state = State(
            "n", load('admission.enabled = false\n[handlers.t]\nexec = ["/bin/true"]\n'), 64
        )
        self.state.known = dict.fromkeys(self.state.known, True)
        self.state.future.bound = self.state.urgent.bound = None
        self.tasks: dict[str, Task] = {}
        self.entries: list[Entry] = []
        for n in range(number):
            doc = {"task": "t", "id": new_id()}
            request = interpret(doc, now=T, dropped=T, zone=zone_of("UTC"), uid=0)
            assert isinstance(request, Submit)
            (task,) = request.tasks
            task = replace(task, at=DUE + n)
            self.tasks[task.id or ""] = task
            self.entries.append(take_in(self.state, task, now(T)).entry)

    def asked(self, wall: int) -> list[Ask]:
        return [action for action in elapse(self.state, now(wall)) if isinstance(action, Ask)]

    def answer(self, ask: Ask) -> None:
        found = {i: Place("pending", p, ask.entries[i], self.tasks[i]) for i, p in ask.paths.items()}
        assert decide(self.state, Looked(ask, found), now(DUE - LEAD)) == []  # type: ignore[arg-type]

    def wake(self, wall: int) -> int:
        return deadlines.next_wake(self.state, now(wall))

    def started(self, wall: int) -> list[str]:
        elapse(self.state, now(wall))
        return [action.task.id for action in dispatch(self.state, now(wall)) if isinstance(action, Start)]


def now(wall: int) -> Now:
    return Now(wall, wall - T)


def test_it_is_read_a_moment_before_and_starts_without_a_question() -> None:
    some = Some(1)
    assert some.wake(T) == DUE - LEAD - T
    assert some.asked(DUE - LEAD - 1) == []
    (ask,) = some.asked(DUE - LEAD)
    assert ask.ids == (some.entries[0].id,)
    some.answer(ask)
    assert some.wake(DUE - LEAD) == LEAD
    assert some.started(DUE - 1) == []
    assert some.started(DUE) == [some.entries[0].id]


def test_a_question_is_asked_once_whatever_the_answer() -> None:
    some = Some(1)
    (ask,) = some.asked(DUE - LEAD)
    decide(some.state, Looked(ask, {ask.ids[0]: None}), now(DUE - LEAD))
    assert some.asked(DUE - 1) == []
    assert some.wake(DUE - LEAD) == LEAD
    actions = dispatch(some.state, now(DUE))
    elapse(some.state, now(DUE))
    actions += dispatch(some.state, now(DUE))
    assert [a.why for a in actions if isinstance(a, Ask)] == ["claim"]


def test_of_many_the_next_ones_are_read_and_the_others_after_them() -> None:
    some = Some(MOST + 3)
    (ask,) = some.asked(DUE)
    assert list(ask.ids) == [e.id for e in some.entries[1 : MOST + 1]]  # the first is due by now
    assert some.asked(DUE) == []
    (rest,) = some.asked(DUE + MOST)
    assert list(rest.ids) == [e.id for e in some.entries[MOST + 1 :]]


def test_what_was_renamed_meanwhile_is_not_kept() -> None:
    some = Some(1)
    (ask,) = some.asked(DUE - LEAD)
    some.state.discard(some.entries[0])
    some.answer(ask)
    assert some.state.bodies.take(some.entries[0].id) is None


@pytest.mark.parametrize("why", ["shut", "stopping"])
def test_nothing_is_read_while_nothing_may_start(why: str) -> None:
    some = Some(1)
    setattr(some.state, why, why if why == "shut" else True)
    assert some.asked(DUE - 1) == []
    assert some.wake(DUE - LEAD) == LEAD


def test_to_read_ahead_is_no_change_that_the_status_would_tell(disk: RealDisk) -> None:
    some = Some(1)
    store, backlog = Store(disk, "n", durable=False), Backlog(disk, lambda: False)
    core = Core(some.state, disk, store, None, backlog, None, None)  # type: ignore[arg-type]
    core.round([], now(DUE - 9 * LEAD))  # which begins to look at what is held
    assert not some.state.read_to
    assert not core.round([], now(DUE - LEAD))
    assert some.state.read_to


def test_what_has_to_be_read_starts_in_its_turn_all_the_same() -> None:
    some = Some(4)
    for entry in (some.entries[1], some.entries[3]):
        some.state.bodies.keep(some.tasks[entry.id])
    elapse(some.state, now(DUE + 9))
    order: list[object] = []
    for action in dispatch(some.state, now(DUE + 9)):
        if isinstance(action, Ask):
            order.append(action.ids)
        elif isinstance(action, Start):
            order.append(action.entry.id)
    one, two, three, four = [entry.id for entry in some.entries]
    assert order == [(one,), two, (three,), four]


def test_what_comes_back_is_not_read_again() -> None:
    some = Some(1)
    (entry,) = some.entries
    some.state.bodies.keep(some.tasks[entry.id])
    assert some.started(DUE) == [entry.id]
    (move,) = decide(some.state, Returned(entry.id, 1), now(DUE))
    assert isinstance(move, Move)
    assert some.started(DUE) == [entry.id]
