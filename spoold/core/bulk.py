"""A verb on all tasks that match: found a slice at a time, so that the queue keeps moving.

The action stays in incoming/ until all are done: after a crash it is carried out again, and finds
those that are left. What came to its state after the action was dropped is not meant.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spool.actions import Move as MoveRequest
from spool.actions import Verb
from spool.times import format_utc
from spoold.core import table, verbs
from spoold.core.values import Ask, Drop, Note, Seek, Seeking

if TYPE_CHECKING:
    from spool.names import Entry
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Looked, Matched, Now

Bulk = Verb | MoveRequest


def begin(state: State, event: Arrived, request: Bulk) -> list[Action]:
    """Start looking; the same file again, which lies there until it is done with, is no news."""
    if event.source in state.seeks:
        return []
    wanted = request.match.state if request.match is not None else None
    if wanted is not None and kind_of(request) not in table.TABLE[wanted]:
        rule = str(table.Illegal(wanted, kind_of(request)))
        reason = {"field": "match.state", "value": wanted, "rule": rule, "action": kind_of(request)}
        return [verbs.refuse(state, event.source, reason, None, "unknown", verbs.id_of(event.source))]
    state.seeks[event.source] = Seeking(request)
    return [Seek(event.source, request)]


def matched(state: State, event: Matched) -> list[Action]:
    """Some have been found: the disk says what they are now. Or that was all."""
    found = state.seeks.get(event.source)
    if found is None:
        return []
    if event.done:
        del state.seeks[event.source]
        return [Note("match", _note(found, event)), Drop(event.source)]
    found.found += len(event.paths)
    if not event.paths:
        return []
    return [Ask("match", tuple(event.paths), event.paths, found.request, event.source)]


def looked(state: State, event: Looked, now: Now) -> list[Action]:
    """The verb on some of its tasks; what cannot be done is counted, not refused."""
    request, source = event.ask.request, event.ask.source
    found = state.seeks.get(source) if source is not None else None
    if source is None or found is None or not isinstance(request, Bulk):
        return []
    out: list[Action] = []
    by = verbs.asker(request, source)
    for task_id, place in event.found.items():
        gone = place is None or not _meant(request, place.entry, source.ctime)
        if gone and task_id not in state.runs:
            continue
        try:
            out += verbs.on_one(state, request, task_id, place, by, now)
            found.changed += 1
        except (verbs.Denied, table.Illegal) as problem:
            found.denied[str(problem)] = found.denied.get(str(problem), 0) + 1
    return out


def kind_of(request: Bulk) -> str:
    """The word for it."""
    return request.kind if isinstance(request, Verb) else "move"


def _meant(request: Bulk, entry: Entry, dropped: int) -> bool:
    """Not what this action, or somebody after it, has put there: it would go round in circles."""
    if isinstance(request, MoveRequest):
        return request.front is None or entry.front != request.front or entry.time <= dropped
    return request.kind != "retry" or entry.time <= dropped


def _note(found: Seeking, event: Matched) -> dict[str, Any]:
    request = found.request
    if not isinstance(request, Bulk) or request.match is None:
        return {}
    match = {k: v for k, v in asdict(request.match).items() if v is not None}
    for name in ("since", "until"):
        if name in match:
            match[name] = format_utc(match[name])
    note = {"action": kind_of(request), "match": match, "found": found.found}
    note |= {"changed": found.changed, "by": verbs.asker(request, event.source)}
    return note | ({"denied": found.denied} if found.denied else {})


__all__ = ["begin", "kind_of", "looked", "matched"]
