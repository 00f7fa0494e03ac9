"""What is due in a moment is read a moment before, so that it starts on time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spoold.core import order, table
from spoold.core.values import Ask

if TYPE_CHECKING:
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Now

LEAD = 800  # us: a round of an idle daemon, and it is still warm
MOST = 16  # read at once: more than may start at once on most machines


def read_ahead(state: State, now: Now) -> list[Action]:
    """Ask for the bodies of the next tasks to come due; once for each."""
    if wait(state, now) != 0:
        return []
    next_ones = [e for e in state.future.head(MOST) if e.time <= now.wall + LEAD]
    state.read_to = order.coming(next_ones[-1])
    paths = {entry.id: layout.pending(entry) for entry in next_ones}
    return [Ask("soon", tuple(paths), paths, entries={entry.id: entry for entry in next_ones})]


def looked(state: State, found: dict[str, Place | None]) -> list[Action]:
    """The bodies are there: kept, if they are still what waits."""
    for task_id, place in found.items():
        if (
            place is not None
            and place.state == table.PENDING
            and state.waiting.get(task_id) == place.entry
        ):
            state.bodies.keep(place.task)
    return []


def wait(state: State, now: Now) -> int | None:
    """In how many us there is something to read; None where the next to come due was asked for."""
    first = state.future.first()
    if first is None or first <= state.read_to or state.paused():
        return None
    return max(0, state.future.entries[first].time - LEAD - now.wall)
