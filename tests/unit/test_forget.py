"""What is forgotten. When the core reads all that waits anew: that costs a look at every name, and is to be worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spool.disk import RealDisk
from spool.init import init
from spool.layout import DEFAULT_PARENT, OUTBOX
from spool.names import PRIORITIES, Entry, event_name, new_id
from spool.settings import load
from spoold.core import control
from spoold.core.decide import decide
from spoold.core.state import State
from spoold.core.values import Now, Outboxes, Takes
from spoold.effects.outboxes import AT_ONCE, OutboxLimits

if TYPE_CHECKING:
    from pathlib import Path

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
    assert state.waits_for(parent) is reads
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


def test_a_default_outbox_is_cut_a_little_at_a_time(tmp_path: Path) -> None:
    init(str(tmp_path))
    disk, state = RealDisk(str(tmp_path)), core("outbox_limit = 200")
    folder = f"{OUTBOX}/{DEFAULT_PARENT}"
    disk.make_dir(folder)
    names = [event_name(NOW.wall + n, new_id(), "t", "done") for n in range(450)]
    for name in names:
        disk.write(f"{folder}/{name}", b"")
    limits, left, now = OutboxLimits(disk, state), len(names), NOW
    decide(state, *limits.look(now), now)
    while (wait := limits.due(now)) is not None:
        now = Now(now.wall + wait, now.mono + wait)
        assert limits.look(now) == []
        before, left = left, len(disk.names(folder))
        assert before - left <= AT_ONCE
    assert sorted(disk.names(folder)) == names[-180:]


def test_what_is_paused_comes_next_only_where_nothing_else_does() -> None:
    state = core(PYTHON)
    control.replace_rows(state, [{"kind": "pause", "task": "t.n*", "node": None}])
    state.known = dict.fromkeys(PRIORITIES, True)
    state.future.bound = state.urgent.bound = None
    for task, time in (("t.new", NOW.wall - 5), ("t.later", NOW.wall + 5)):
        state.insert(Entry(time=time, id=new_id(NOW.wall), task=task), NOW.wall)
    found = state.next_event()
    assert found is not None
    assert found.task == "t.later"
    state.discard(found)
    found = state.next_event()
    assert found is not None
    assert found.task == "t.new"
