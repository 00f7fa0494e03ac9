"""Slots: what is handed ahead takes over one, and a coroutine has none to leave."""

from __future__ import annotations

from typing import Any

import pytest

from spool.names import Entry, new_id
from spool.settings import load
from spoold.core import attempts, slots
from spoold.core.state import State
from spoold.core.values import Now, Run

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
    body: Any = None  # nobody asks for it
    made = Run(entry=one, path="", task=body, handler=handler, parent="", started=0, began=0, limit=0)
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
