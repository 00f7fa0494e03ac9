"""What people say about groups of errors: resolve, mute, reopen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.failures import SAID
from spool.times import format_utc, parse_utc
from spoold.core.values import Drop, Note
from spoold.core.verbs import id_of, refuse

if TYPE_CHECKING:
    from spool.actions import Care
    from spoold.core.failures import Groups
    from spoold.core.state import State
    from spoold.core.values import Action, Arrived, Now


def care(state: State, event: Arrived, request: Care, now: Now) -> list[Action]:
    """resolve, mute, reopen: what somebody says of groups; refused where one is not known."""
    unknown = [name for name in request.errors if name not in state.groups.table]
    if unknown:
        rule = "no error group has this fingerprint; `spool errors` lists them"
        reason = {"field": "errors", "value": unknown[0], "rule": rule, "action": request.kind}
        return [refuse(state, event.source, reason, None, "unknown", id_of(event.source))]
    by: dict[str, Any] = {**event.source.by, "at": format_utc(now.wall), "why": request.why}
    for name in request.errors:
        say(state.groups, name, request.kind, by, request.until)
    note: dict[str, Any] = {"errors": list(request.errors), "by": by}
    if request.until is not None:
        note["until"] = format_utc(request.until)
    return [Note(request.kind, note), Drop(event.source)]


def say(groups: Groups, fingerprint: str, kind: str, by: dict[str, Any], until: int | None) -> None:
    """A group gets another state."""
    group = groups.table[fingerprint]
    groups.change(group, SAID[kind], by, parse_utc(by["at"]))
    group.until = until
    groups.said = True
