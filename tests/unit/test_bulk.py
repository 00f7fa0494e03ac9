"""A verb on all that match: what it leaves out, and what it tells of that."""

from __future__ import annotations

from typing import Any

import pytest

from spool.actions import Move as MoveRequest
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


def found(times: int, stands: str = "pending", **action: Any) -> Seeking:
    """What a verb on all has counted that finds one task so many times, as it left it."""
    state = State("n", load('[handlers.t]\nexec = ["/bin/true"]\n'), 64)
    submit, verb = (
        interpret(doc, now=T, dropped=T, zone=zone_of("UTC"), uid=0)
        for doc in ({"task": "t"}, {**action, "match": {"task": "t"}})
    )
    assert isinstance(submit, Submit) and isinstance(verb, Verb | MoveRequest)
    move = take_in(state, submit.tasks[0], Now(T, 0))
    state.seeks[SOURCE] = seeking = Seeking(verb)
    body, entry = move.body, move.entry
    assert body is not None
    for n in range(times):
        place = Place(stands, f"{stands}/x", entry, body)
        ask = Ask("match", (entry.id,), {}, verb, SOURCE)
        for one in looked(state, Looked(ask, {entry.id: place}), Now(T + 9 + n, 9 + n)):
            assert isinstance(one, Move)
            entry = one.entry
    return seeking


@pytest.mark.parametrize(("stands", "changed"), [("pending", 1), ("done", 0)])
def test_what_has_moved_on_since_it_was_found_is_not_told_as_refused(stands: str, changed: int) -> None:
    seeking = found(1, stands, action="hold")
    assert (seeking.changed, seeking.denied) == (changed, {})


@pytest.mark.parametrize(
    "to",
    [
        {"at": "+2h"},
        {"at": "2026-01-01T00:00:00Z"},
        {"at": "2026-01-01T00:00:00Z", "position": "front", "deadline": "+1h"},
        {"position": "front"},
        {"priority": "low"},
    ],
)
def test_what_a_move_of_all_has_put_in_its_place_does_not_come_round_again(to: dict[str, str]) -> None:
    seeking = found(3, action="move", **to)
    assert (seeking.found, seeking.changed) == (1, 1)
