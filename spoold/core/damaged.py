"""A task that waits and whose own copy is damaged: it goes to corrupt/, and its parent is told that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.names import id_time
from spool.owncopy import Task
from spool.records import error
from spool.times import parse_utc
from spoold.core import attempts, table
from spoold.core.values import Move

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spool.names import Entry
    from spoold.core.state import State
    from spoold.core.values import Now


def put_aside(  # noqa: PLR0913 - what is known of it
    state: State, entry: Entry, path: str, target: str, why: str, came: Mapping[str, Any], now: Now
) -> Move:
    """It goes from `path` to `target`. `came`: what the journal says of its take-in, if anything.

    There is no record: it stands in no terminal state, and a submission with its id is a new task.
    """
    before = path.partition("/")[0]
    task = Task(
        id=entry.id,
        task=entry.task,
        args=None,
        at=entry.time,
        deadline=entry.deadline,
        notify=came.get("parent"),
        key=came.get("key"),
        submitted_at=parse_utc(came["at"]) if came else id_time(entry.id),
        uid=came.get("uid"),
        signer=came.get("signer"),
    )
    parent = state.parent_of(task)
    more = {"outcome": "lost", "error": error("damaged", why)}
    told = attempts.message(state, "failed", entry, task, parent, now, **more)
    told.content["entry"] = target
    return Move(
        event="quarantine",
        entry=entry,
        before=before,
        after=table.after(before, "quarantine"),
        source=path,
        target=target,
        key=task.key,
        message=told,
        note={"outcome": "lost", "parent": parent, "reason": why},
    )
