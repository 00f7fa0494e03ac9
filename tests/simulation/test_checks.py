"""The simulator's own net: a daemon that forgets what it was asked for is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from spool import layout
from spoold.core import attempts, verbs
from tests.crash.scenarios import act, submit, wait
from tests.simulation import invariants
from tests.simulation.watch import Broken
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS: list[Any] = [["never", 0]] * 5


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb comes to nothing."""
    monkeypatch.setattr(verbs, "_on_place", lambda *_: [])


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel is forgotten before the process is gone."""
    exited = attempts.exited

    def forget(state: Any, event: Any, now: Any) -> Any:
        state.runs[event.id].ending = ""
        return exited(state, event, now)

    monkeypatch.setattr("spoold.core.attempts.exited", forget)


def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be held goes on waiting for its turn."""
    hold = verbs._hold

    def soft(state: Any, place: Any, by: Any) -> Any:
        move = hold(state, place, by)
        state.insert(place.entry, 0)
        return replace(move, target=layout.pending(replace(place.entry, front=True)))

    monkeypatch.setattr(verbs, "_hold", soft)


def numb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move changes nothing."""
    move = verbs._move

    def same(state: Any, request: Any, *args: Any) -> Any:
        return move(state, replace(request, priority=None), *args)

    monkeypatch.setattr(verbs, "_move", same)


@pytest.mark.parametrize(
    ("fault", "verb"),
    [(deaf, act("hold", 1)), (forgetful, act("cancel", 2)), (restless, act("hold", 1)),
     (numb, act("move", 1, priority="high"))],
    ids=["deaf", "forgetful", "restless", "numb"],
)  # fmt: skip
def test_a_daemon_that_does_not_do_what_it_is_asked_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None], verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play() -> None:
        world = World()
        world.boot()
        submit({"task": "run.a", "n": 1, "at": "+1h"}, {"task": "run.b", "n": 2, "run": RUNS})(world)
        wait(1)(world)
        verb(world)
        wait(1)(world)
        world.drain()
        invariants.at_end(world)

    play()
    fault(monkeypatch)
    with pytest.raises(Broken):
        play()
