"""A pause whose time is over ends once, and keeps no daemon awake that may not end it yet."""

from __future__ import annotations

from spool.settings import load
from spoold.core.control import expire
from spoold.core.deadlines import next_wake
from spoold.core.state import State
from spoold.core.values import Now, Rows

NOW = Now(1_795_262_400_000_000, 1_000_000)


def test_who_leads_since_a_moment_ago_sleeps_until_the_rows_are_read() -> None:
    state = State("n", load(""), 2)
    over = {"kind": "pause", "node": None, "task": None, "until": NOW.wall - 1}
    state.pauses, state.reread = [over], True
    assert expire(state, NOW) == []
    assert next_wake(state, NOW) > 0
    state.reread = False
    assert next_wake(state, NOW) == 0
    (ended,) = expire(state, NOW)
    assert isinstance(ended, Rows)
    assert ended.rows == []
    assert next_wake(state, NOW) > 0
