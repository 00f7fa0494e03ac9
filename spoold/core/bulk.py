"""A verb on all tasks that match, and a replay: a slice at a time, so that the queue keeps moving.

The action stays in incoming/ until all are done: after a crash it is carried out again, and finds
those that are left. What was submitted after the action was dropped is not meant, and what it has
put in its place itself does not come round again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from spool import layout
from spool.actions import Move as MoveRequest
from spool.actions import Replay, Verb
from spool.requests import kind_of
from spool.safe import as_utf8
from spool.times import format_utc
from spoold.core import table, verbs
from spoold.core.submit import take_in
from spoold.core.values import Ask, Drop, FreeKeys, Note, Seek, Seeking, TakeKeys

if TYPE_CHECKING:
    from spool.place import Place
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Looked, Matched, Now, Refuse

REASONS = 50  # different reasons told in one answer
Bulk = Verb | MoveRequest | Replay


def begin(state: State, event: Arrived, request: Bulk) -> list[Action]:
    """Start looking; the same file again, which lies there until it is done with, is no news."""
    if event.source in state.seeks:
        return []
    wanted = request.match.state if request.match is not None else None
    if wanted is not None and not _takes(wanted, request):
        rule = str(table.Illegal(wanted, kind_of(request)))
        reason = {"field": "match.state", "value": wanted, "rule": rule, "action": kind_of(request)}
        return [verbs.refuse(state, event.source, reason, None, "unknown", verbs.id_of(event.source))]
    state.seeks[event.source] = Seeking(request)
    return [Seek(event.source, request, state.settings)]


def matched(state: State, event: Matched, now: Now) -> list[Action]:
    """Some have been found: the disk says what they are now. Or that was all."""
    found = state.seeks.get(event.source)
    if found is None:
        return []
    if event.done:
        return _done(state, found, event)
    if isinstance(found.request, Replay):
        return _replay(state, found, found.request, event, now)
    if not event.paths:
        return []
    return [Ask("match", tuple(event.paths), event.paths, found.request, event.source)]


def _done(state: State, found: Seeking, event: Matched) -> list[Action]:
    del state.seeks[event.source]
    if found.short:
        return [FreeKeys((), again=True)]
    if found.elsewhere:
        return verbs.leave(state, event.source, found.elsewhere)
    return [Note("match", _note(found, event)), _answer(state, found, event)]


def looked(state: State, event: Looked, now: Now) -> list[Action]:
    """The verb on some of its tasks; what cannot be done is counted, not refused."""
    request, source = event.ask.request, event.ask.source
    found = state.seeks.get(source) if source is not None else None
    if source is None or found is None or not isinstance(request, Verb | MoveRequest):
        return []
    out: list[Action] = []
    back = 0
    for task_id, place in event.found.items():
        if place is None and task_id not in state.runs:
            continue
        if place is not None and not _meant(request, place, source.ctime, now):
            continue
        found.found += 1
        try:
            done = verbs.on_one(state, request, task_id, place, source, now, back)
        except table.Illegal:
            continue  # it has moved on meanwhile, to where nobody looks
        except verbs.Denied as problem:
            _deny(found, str(problem))
        except verbs.Elsewhere as other:
            found.elsewhere.add(other.node)
        else:
            found.changed += 1
            out += done
            back += verbs.come_back(done, source.who)
    return out


def no_room(state: State) -> None:
    """A new task of a replay found no room on the disk: its action stays."""
    for found in state.seeks.values():
        found.short |= isinstance(found.request, Replay)


def _replay(state: State, found: Seeking, request: Replay, event: Matched, now: Now) -> list[Action]:
    """New tasks, but for those whose handler does not want it."""
    found.found += len(event.tasks) + len(event.denied) + event.known
    found.changed += event.known  # before a crash
    for why in event.denied:
        _deny(found, why)
    out: list[Action] = []
    for task in event.tasks:
        handler = state.settings.handler_for(task.task)
        if handler is not None and not handler.replayable and not request.force:
            _deny(
                found, f"handler {handler.pattern} is not replayable: force it, or leave {task.task} out"
            )
            continue
        keyed = task.key is not None
        out.append(TakeKeys(event.source, request, (task,)) if keyed else take_in(state, task, now))
        found.changed += 1
    return out


def _answer(state: State, found: Seeking, event: Matched) -> Drop | Refuse:
    """A replay that left something out is refused in the end, though the rest is done."""
    if not isinstance(found.request, Replay) or not found.denied:
        return Drop(event.source)
    said = [f"{why} ({n} tasks)" if n > 1 else why for why, n in found.denied.items()]
    reason = {
        "field": "ids" if found.request.match is None else "match",
        "value": None,
        "rule": "; ".join(said),
        "action": "replay",
    }
    return verbs.refuse(state, event.source, reason, None, "unknown", verbs.id_of(event.source))


def _deny(found: Seeking, why: str) -> None:
    if why in found.denied or len(found.denied) < REASONS:
        found.denied[why] = found.denied.get(why, 0) + 1


def _takes(state: str, request: Bulk) -> bool:
    if isinstance(request, Replay):
        return state in table.TERMINAL
    return kind_of(request) in table.TABLE[state]


def _meant(request: Verb | MoveRequest, place: Place, dropped: int, now: Now) -> bool:
    """Not what came later, nor what this action has moved: it would go round in circles."""
    entry = place.entry
    if dropped < place.task.submitted_at <= now.wall:  # later, and not by a clock that was ahead
        return False
    if not isinstance(request, MoveRequest):
        return True
    after = verbs.moved(request, place, now)
    if request.at is None and entry.time > dropped:
        after = replace(after, time=entry.time)
    return after != entry


def _note(found: Seeking, event: Matched) -> dict[str, Any]:
    request = found.request
    if not isinstance(request, Bulk):
        return {}
    match = {} if request.match is None else asdict(request.match)
    match = {k: v for k, v in match.items() if v is not None}
    for name in ("since", "until"):
        if name in match:
            match[name] = format_utc(match[name])
    note: dict[str, Any] = {"action": kind_of(request), "match": match or None}
    note["file"] = layout.dropped_as(as_utf8(event.source.path.rpartition("/")[2]))
    note |= {"found": found.found, "changed": found.changed}
    if found.duplicates:
        note["duplicates"] = found.duplicates
    note["by"] = verbs.asker(request, event.source)
    if isinstance(request, Replay) and request.force:
        note["force"] = True
    return note | ({"denied": found.denied} if found.denied else {})
