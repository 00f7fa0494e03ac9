"""Tasks that wait for others: when these have ended they go on, or end with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.heldfor import AFTER
from spool.records import error
from spoold.core import attempts, table
from spoold.core.values import Ask

if TYPE_CHECKING:
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Now, Settled


def settled(state: State, event: Settled) -> list[Action]:
    """They are looked at once more: somebody may have released or cancelled them meanwhile."""
    out: list[Action] = []
    if event.free:
        out.append(Ask("release", tuple(event.free), event.free))
    if event.stranded:
        paths = {task_id: path for task_id, (path, _) in event.stranded.items()}
        state.stranded |= {task_id: why for task_id, (_, why) in event.stranded.items()}
        out.append(Ask("strand", tuple(paths), paths))
    return out


def looked(state: State, found: dict[str, Place | None], now: Now) -> list[Action]:
    """Those that still wait are cancelled."""
    out: list[Action] = []
    for task_id, place in found.items():
        why = state.stranded.pop(task_id, None)
        if why is None or place is None or place.state != table.HELD or place.entry.why != AFTER:
            continue
        out.append(
            attempts.ending(
                state,
                "strand",
                place.entry,
                place.task,
                before=table.HELD,
                source=place.path,
                outcome="cancelled",
                now=now,
                error=error("predecessor", why),
            )
        )
    return out
