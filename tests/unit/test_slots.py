"""Slots: what is handed ahead takes over one, and a coroutine has none to leave."""

from __future__ import annotations

from spool.names import Entry, new_id
from spool.settings import load
from spoold.core import slots
from spoold.core.state import State
from spoold.core.values import Now

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
