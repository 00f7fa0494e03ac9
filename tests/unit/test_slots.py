"""Slots: what is handed ahead takes over one, and a coroutine has none to leave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from spool.names import Entry, new_id
from spool.settings import load
from spool.times import FOREVER
from spoold.core import attempts, slots
from spoold.core.decide import decide
from spoold.core.state import SPARE, State
from spoold.core.values import Now, Recall, Reloaded, Run

NOW = Now(1_795_262_400_000_000, 1_000_000)
TOML = '[handlers."py.*"]\npython = "app"\n[admission]\nenabled = false\n'


def entry(task: str) -> Entry:
    return Entry(time=NOW.wall, id=new_id(NOW.wall), task=task, prio="medium", base="medium")


def test_nothing_is_handed_ahead_behind_coroutines_alone() -> None:
    state = State("n", load(TOML), 2)
    state.asyncs = {"py.*": frozenset({"py.a"})}
    state.ahead.brisk.add("py.*")
    for _ in range(20):
        state.history.learn("py.quick", took=100)
    slots.occupy(state, entry("py.a"), NOW, ahead=False)
    assert not slots.fits(state, entry("py.quick"))
    slots.occupy(state, entry("py.quick"), NOW, ahead=False)
    assert slots.fits(state, entry("py.quick"))
    assert slots.plain(state, "py.*") == 1


def programs(more: str = "") -> State:
    """Two of a handler run, of a name that is known to be short."""
    toml = f'concurrency = 2\n[admission]\nenabled = false\n[handlers."x.*"]\nexec = ["x"]\n{more}'
    state = State("n", load(toml), 2)
    state.ahead.brisk.add("x.*")
    for name, memory in (("x.small", 1000), ("x.large", 2000)):
        for _ in range(20):
            state.history.learn(name, took=100, memory=memory)
    for _ in range(2):
        run(state, "x.small")
    return state


def run(state: State, task: str, *, ahead: bool = False) -> Run:
    """A task is claimed."""
    one, handler = entry(task), state.settings.handlers["x.*"]
    slots.occupy(state, one, NOW, ahead=ahead)
    body: Any = SimpleNamespace(deadline=None)  # nobody asks for more of it
    made = Run(
        entry=one,
        path="",
        task=body,
        handler=handler,
        parent="",
        started=0,
        began=0,
        limit=FOREVER,
    )
    state.run(made)
    return made


def test_programs_are_ordered_ahead_where_those_that_run_took_as_much_memory() -> None:
    state = programs()
    assert slots.fits(state, entry("x.small"))
    assert not slots.fits(state, entry("x.large"))
    assert not slots.fits(state, entry("x.unknown"))
    ended = next(iter(state.runs.values()))
    heir = run(state, "x.small", ahead=True)
    attempts.release(state, ended, NOW)
    assert not slots.is_ahead(state, heir.entry.id, heir.handler)
    assert set(state.gate.booked) == {*state.runs}
    assert state.processes == 2


def test_no_more_is_ordered_ahead_than_a_span_for_each_slot() -> None:
    state = programs()
    count = 0
    while slots.fits(state, entry("x.small")):
        run(state, "x.small", ahead=True)
        count += 1
    assert count == 2 * slots.PROGRAMS // 100
    attempts.release(state, next(iter(state.runs.values())), NOW)
    assert slots.fits(state, entry("x.small"))


@pytest.mark.parametrize(
    "most", ["concurrency = 1\n", '[handlers."x.*"]\nexec = ["x"]\nconcurrency = 1\n']
)
def test_nothing_is_ordered_ahead_into_slots_that_are_to_go(most: str) -> None:
    state = programs()
    assert slots.fits(state, entry("x.small"))
    state.settings = load(most if "handlers" in most else f'{most}[handlers."x.*"]\nexec = ["x"]\n')
    assert not slots.fits(state, entry("x.small"))


def test_no_program_is_ordered_ahead_while_it_is_not_known_what_those_that_run_need() -> None:
    state = programs()
    for one in [*state.runs.values()]:  # as if their bodies were asked for
        state.claiming[one.entry.id] = one.entry
    state.runs.clear()
    assert slots.fits(state, entry("x.small"))
    assert not slots.fits(state, entry("x.large"))
    state.gate.booked.clear()
    assert not slots.fits(state, entry("x.small"))


def test_no_program_is_ordered_ahead_while_the_machine_is_beyond_a_threshold() -> None:
    state = programs()
    state.gate.pressed = True
    assert slots.fits(state, entry("x.small"))
    state.settings = load('concurrency = 2\n[handlers."x.*"]\nexec = ["x"]\n')
    assert not slots.fits(state, entry("x.small"))


def test_a_program_that_takes_over_a_slot_is_booked_with_what_it_needs() -> None:
    state = programs()
    ended, other = state.runs.values()
    state.history.names["x.large"].memory.clear()
    state.history.learn("x.large", took=100, memory=1000)  # it was small when it was claimed
    heir = run(state, "x.large", ahead=True)
    for _ in range(3):
        state.history.learn("x.large", took=100, memory=9000)
    attempts.release(state, ended, NOW)
    assert state.gate.booked[heir.entry.id].memory == 9000
    assert state.gate.booked[other.entry.id].memory == 1000


def test_the_heir_of_a_slot_is_the_first_by_its_place_whenever_it_was_claimed() -> None:
    state = programs()
    ended = next(iter(state.runs.values()))
    low, high = entry("x.small"), entry("x.small")
    slots.occupy(state, replace(low, prio="low"), NOW, ahead=True)
    slots.occupy(state, replace(high, prio="high"), NOW, ahead=True)
    attempts.release(state, ended, NOW)
    handler = state.settings.handlers["x.*"]
    assert slots.is_ahead(state, low.id, handler)
    assert not slots.is_ahead(state, high.id, handler)


def test_what_waits_for_a_slot_of_its_own_handler_keeps_others_of_it_from_going_ahead() -> None:
    state = programs()
    toml = (
        'concurrency = 9\n[admission]\nenabled = false\n[handlers."x.*"]\nexec = ["x"]\nconcurrency = 2\n'
    )
    state.settings = load(f'{toml}[handlers."y.*"]\nexec = ["y"]\n')
    state.known = dict.fromkeys(state.known, True)
    state.urgent.bound = None
    run(state, "x.small", ahead=True)
    state.insert(replace(entry("x.small"), prio="low"), NOW.wall)
    found = slots.next_start(state)
    assert found is not None
    assert found[1]
    assert not slots.recall(state)
    state.insert(replace(entry("x.unknown"), prio="high"), NOW.wall)
    assert slots.next_start(state) is None
    assert slots.recall(state) == [Recall("x.*")]
    state.insert(replace(entry("y.a"), prio="low"), NOW.wall)
    found = slots.next_start(state)
    assert found is not None
    assert found[0].task == "y.a"


def test_nothing_takes_over_the_slot_of_what_runs_as_its_handler_no_longer_does() -> None:
    state = programs()
    one, other = state.runs.values()
    python = load('concurrency = 2\n[admission]\nenabled = false\n[handlers."x.*"]\npython = "x"\n')
    decide(state, Reloaded(python), NOW)
    state.ahead.brisk.add("x.*")
    assert not slots.fits(state, entry("x.small"))
    attempts.release(state, one, NOW)
    assert not slots.fits(state, entry("x.small"))
    run(state, "x.small")
    attempts.release(state, other, NOW)
    assert slots.fits(state, entry("x.small"))


def test_what_has_ended_leaves_nothing_behind_a_run_that_takes_long() -> None:
    state = programs()
    first, _ = [*state.runs.values()]
    state.extend(first, NOW.mono + 1)
    late = replace(entry("x.small"), deadline=NOW.wall + 1)
    for _ in range(500):
        short = run(state, "x.small", ahead=True)
        state.extend(short, NOW.mono + 2)
        attempts.release(state, short, NOW)
        short.entry = replace(late, id=new_id(NOW.wall))
        state.run(short)
        state.runs.pop(short.entry.id)
    assert len(state._limits) <= 2 * 4 + SPARE
    assert len(state._deadlines) <= 2 * 4 + SPARE
    assert state.next_limit() is first
