"""What only the code of other nodes takes: left to them, and theirs as soon as that is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.disk import RealDisk
from spool.names import PRIORITIES, Entry, entry_name, new_id
from spool.why import Why
from spoold.core.decide import decide
from spoold.core.dispatch import claim
from spoold.core.scans import freed
from spoold.core.values import Registered, Scan, Seen, Takes
from tests.unit.test_forget import NOW, PYTHON, core

if TYPE_CHECKING:
    from pathlib import Path


def held(task: str) -> Seen:
    entry = Entry(time=NOW.wall, id=new_id(NOW.wall), task=task, why="no-handler")
    return Seen("held", "", "", [entry_name(entry, dated=True)])


def test_what_was_parked_before_it_was_known_who_takes_it_is_given_to_him() -> None:
    state = core(PYTHON)
    state.peers = frozenset(("here", "there"))
    state.code = {"t.*": {"t.old": frozenset({1})}}
    assert not decide(state, held("t.new"), NOW)
    assert decide(state, Takes({"there": {"t.*": {"t.new": frozenset({1})}}}), NOW) == [Scan("held")]
    assert decide(state, held("t.new"), NOW)
    assert not decide(state, held("t.other"), NOW)


@pytest.mark.parametrize(("versions", "left"), [("", True), ("versions = [1]", False)])
def test_a_version_that_the_settings_leave_out_is_left_to_nobody(versions: str, *, left: bool) -> None:
    state = core(PYTHON + versions)
    state.peers = frozenset(("here", "there"))
    state.code = {"t.*": {"t.new": frozenset({1})}}
    state.others = {"there": {"t.*": {"t.new": frozenset({1, 2})}}}
    (entry,) = state.waiting.values()
    task: Any = SimpleNamespace(task="t.new", version=2, duplicate_of=None, notify=None)
    assert (not claim(state, entry, task, layout.pending(entry), NOW)) is left


@pytest.mark.parametrize(
    ("versions", "said"), [("", "node there takes it"), ("versions = [1, 3]", "takes versions 1, 3")]
)
def test_why_tells_a_version_that_the_settings_leave_out(
    tmp_path: Path, versions: str, said: str
) -> None:
    (tmp_path / layout.SETTINGS).write_text(PYTHON + versions)
    why = Why(RealDisk(str(tmp_path)), str(tmp_path), NOW.wall, str)
    row = {"handlers": ["t.*"], "module": "app", "takes": {"t.new": [1, 2]}}
    why.alive.append({"node": "there", "python": [row]})
    task: Any = SimpleNamespace(state="held", why="version", id="x", task="t.new", version=2, entry=None)
    assert said in why.line(task)


def test_a_worker_with_the_same_code_is_none_and_what_was_left_is_not_looked_at_again() -> None:
    state = core(PYTHON)
    state.peers = frozenset(("here", "there"))
    ours = {"t.new": frozenset({1})}
    decide(state, Registered(("t.*",), ours), NOW)
    decide(state, Takes({"there": {"t.*": {"t.new": frozenset({1, 2})}}}), NOW)
    state.known = dict.fromkeys(PRIORITIES, True)
    many = [Entry(time=NOW.wall, id=new_id(NOW.wall), task="t.new") for _ in range(2000)]
    assert all(state.leaves(entry, 2) for entry in many)
    decide(state, Registered(("t.*",), ours), NOW)
    assert len(state.left) == 2000
    assert all(state.known.values())
    decide(state, Registered(("t.*",), {}), NOW)
    assert not state.left


@pytest.mark.parametrize(("version", "goes"), [(1, True), (2, True), (3, False), (None, True)])
def test_what_no_node_takes_stays_parked(version: int | None, *, goes: bool) -> None:
    """Else all of it would come back, and be parked again, whenever a node comes or goes."""
    state = core(PYTHON)
    state.peers = frozenset(("here", "there"))
    state.code = {"t.*": {"t.new": frozenset({1})}}
    state.others = {"there": {"t.*": {"t.new": frozenset({2})}}}
    entry = Entry(time=NOW.wall, id=new_id(NOW.wall), task="t.new", why="version")
    task: Any = SimpleNamespace(task="t.new", version=version, notify=None)
    place: Any = SimpleNamespace(state="held", path=layout.held(entry), entry=entry, task=task)
    assert bool(freed(state, {entry.id: place}, NOW)) is goes


def test_what_the_settings_leave_out_stays_parked_whoever_has_code_for_it() -> None:
    state = core(PYTHON + "versions = [1]")
    state.peers = frozenset(("here", "there"))
    state.code = {"t.*": {"t.new": frozenset({1})}}
    state.others = {"there": {"t.*": {"t.new": frozenset({1, 2})}}}
    entry = Entry(time=NOW.wall, id=new_id(NOW.wall), task="t.new", why="version")
    task: Any = SimpleNamespace(task="t.new", version=2, notify=None)
    place: Any = SimpleNamespace(state="held", path=layout.held(entry), entry=entry, task=task)
    assert not freed(state, {entry.id: place}, NOW)
    assert not state.left
