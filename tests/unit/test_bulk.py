"""A verb on all that match: what it leaves out, and what it tells of that."""

from __future__ import annotations

import pytest

from spool.actions import Submit, Verb, interpret
from spool.machine import zone_of
from spool.place import Place
from spool.settings import load
from spoold.core.bulk import looked
from spoold.core.state import State
from spoold.core.submit import take_in
from spoold.core.values import Ask, Looked, Move, Now, Seeking, Source

T = 1_800_000_000_000_000
SOURCE = Source("incoming/x.json", 1, T + 5, 0)


@pytest.mark.parametrize(("stands", "changed"), [("pending", 1), ("done", 0)])
def test_what_has_moved_on_since_it_was_found_is_not_told_as_refused(stands: str, changed: int) -> None:
    state = State("n", load('[handlers.t]\nexec = ["/bin/true"]\n'), 64)
    submit = interpret({"task": "t"}, now=T, dropped=T, zone=zone_of("UTC"), uid=0)
    hold = interpret(
        {"action": "hold", "match": {"task": "t"}}, now=T, dropped=T, zone=zone_of("UTC"), uid=0
    )
    assert isinstance(submit, Submit) and isinstance(hold, Verb)
    move = take_in(state, submit.tasks[0], Now(T, 0))
    state.seeks[SOURCE] = seeking = Seeking(hold)
    assert move.body is not None
    place = Place(stands, f"{stands}/x", move.entry, move.body)
    out = looked(
        state,
        Looked(Ask("match", (move.entry.id,), {}, hold, SOURCE), {move.entry.id: place}),
        Now(T + 9, 9),
    )
    assert [type(one) for one in out] == [Move] * changed
    assert (seeking.changed, seeking.denied) == (changed, {})
