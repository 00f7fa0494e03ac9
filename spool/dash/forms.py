"""A form as an action, or why it is none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.errors import Invalid
from spool.fields import CARES, VERBS

if TYPE_CHECKING:
    from collections.abc import Mapping

SPOOL = ("pause", "resume")
MATCH = ("task", "state", "error", "since", "until")
MOVES = ("priority", "position", "at")
LONGEST = 1000  # characters of a value
SURE = ("cancel", "pause")  # what is asked about once more, as is whatever many tasks are meant by


def action(form: Mapping[str, str]) -> dict[str, Any]:
    """The action that a form asks for. Invalid."""
    verb = form.get("action", "")
    if verb not in (*VERBS, *CARES, *SPOOL):
        raise Invalid("action", verb, f"must be one of {', '.join((*VERBS, *CARES, *SPOOL))}")
    for name, value in form.items():
        if len(value) > LONGEST:
            raise Invalid(name, value[:40], f"must have at most {LONGEST} characters")
    found: dict[str, Any] = {"action": verb}
    why = form.get("why", "").strip()
    found["why"] = why or "spool dash"
    if verb in SPOOL:
        found |= {name: form[name] for name in ("task", "node") if form.get(name)}
        return found
    if verb in CARES:
        found["errors"] = form.get("errors", "").split()
        return found
    ids = form.get("ids", "").split()
    match = {name: form[name] for name in MATCH if form.get(name)}
    if bool(ids) == bool(match):
        raise Invalid("ids", form.get("ids"), "give ids, or say which tasks by task, state or error")
    found |= {"ids": ids} if ids else {"match": match}
    if verb == "move":
        found |= {name: form[name] for name in MOVES if form.get(name)}
    return found


def asks(form: Mapping[str, str]) -> bool:
    """Whether a person is to be asked once more."""
    if form.get("sure"):
        return False
    return form.get("action") in SURE or any(
        form.get(name) for name in MATCH if form.get("action") in VERBS
    )
