"""When the core reads all that waits anew: that costs a look at every name, and is to be worth it."""

from __future__ import annotations

import pytest

from spool.layout import DEFAULT_PARENT
from spool.names import PRIORITIES, Entry, new_id
from spool.settings import load
from spoold.core.decide import decide
from spoold.core.state import State
from spoold.core.values import Now, Outboxes, Takes

NOW = Now(1_795_305_540_000_000, 0)
PYTHON = '[handlers."t.*"]\npython = "app"\n'


def core(settings: str) -> State:
    made = State("here", load(settings), 2)
    made.known = dict.fromkeys(PRIORITIES, True)
    made.insert(Entry(time=NOW.wall, id=new_id(NOW.wall), task="t.new"), NOW.wall)
    return made


@pytest.mark.parametrize(("parent", "reads"), [(DEFAULT_PARENT, False), ("shop", True)])
def test_an_outbox_that_was_full_is_a_reason_where_tasks_waited_for_it(parent: str, reads: bool) -> None:
    state = core("outbox_limit = 5")
    decide(state, Outboxes({parent: 5}), NOW)
    assert state.full == {parent}
    decide(state, Outboxes({parent: 4}), NOW)
    assert not state.full
    assert (not state.waiting) is reads


def test_what_others_take_is_one_where_it_changes_what_is_ours() -> None:
    state = core(PYTHON)
    state.peers = frozenset(("here", "there"))
    state.code = {"t.*": {"t.old": frozenset({1})}}
    ours, theirs = {"t.old": frozenset({1})}, {"t.new": frozenset({1})}
    decide(state, Takes({"here": {"t.*": ours}, "there": {"t.*": ours}}), NOW)
    assert (state.not_ours, len(state.waiting)) == (frozenset(), 1)
    decide(state, Takes({"here": {"t.*": ours}, "there": {"t.*": ours | theirs}}), NOW)
    assert (state.not_ours, len(state.waiting)) == ({"t.new"}, 0)
    state.known = dict.fromkeys(PRIORITIES, True)
    decide(state, Takes({"here": {"t.*": ours}, "gone": {"t.*": ours | theirs}}), NOW)
    assert (state.not_ours, state.known["medium"]) == (frozenset(), False)
