"""The attempt record and the event as JSON Schema, beside what spool.records writes.

A reader must ignore fields it does not know, so the schema lets them through.
"""

from __future__ import annotations

from typing import Any

from spool.names import EVENTS, ID, PRIORITIES, TASK
from spool.records import OUTCOMES, VERSION

Schema = dict[str, Any]

_NAME = {"type": "string", "pattern": f"^{TASK}$"}
_ID = {"type": "string", "pattern": f"^{ID}$"}
_INSTANT = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBER = {"type": "number", "minimum": 0}
_TEXT = {"type": "string"}
_PATH = {"type": "string", "pattern": "^[^/].*$"}
_OBJECT = {"type": "object"}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _error() -> Schema:
    parts = {
        "type": _TEXT,
        "message": _TEXT,
        "trace": _maybe(_TEXT),
        "fingerprint": _maybe(_TEXT),
        "reason": _OBJECT,
    }
    required = ["type", "message", "trace", "fingerprint"]
    return _maybe({"type": "object", "properties": parts, "required": required})


def _submitter() -> Schema:
    parts = {"uid": _maybe(_COUNT), "key": _maybe(_TEXT)}
    return {"type": "object", "properties": parts, "required": ["uid", "key"]}


_ALWAYS: Schema = {
    "v": {"const": VERSION},
    "event": {"enum": list(EVENTS)},
    "id": _ID,
    "task": _NAME,
    "attempt": _maybe({"type": "integer", "minimum": 1}),
    "outcome": _maybe({"enum": list(OUTCOMES)}),
    "result": {},
    "error": _error(),
    "submitted_by": _submitter(),
    "node": _NAME,
    "will_retry": {"type": "boolean"},
    "parent": _NAME,
}
_OF_A_TASK: Schema = {
    "version": _maybe({"type": ["integer", "string"]}),
    "replay_of": _maybe(_ID),
    "key": _maybe(_TEXT),
    "args": {},
    "meta": _OBJECT,
    "exit": _maybe(_COUNT),
    "signal": _maybe({"type": "integer", "minimum": 1}),
    "submitted_at": _INSTANT,
    "at": _INSTANT,
    "deadline": _maybe(_INSTANT),
    "started_at": _maybe(_INSTANT),
    "ended_at": _maybe(_INSTANT),
    "seconds": _maybe(_NUMBER),
    "peak_rss": _maybe(_COUNT),
    "log": _maybe(_PATH),
    "next_at": _maybe(_INSTANT),
    "class": {"enum": list(PRIORITIES)},
    "entry": _maybe(_PATH),
}
_SOMETIMES: Schema = {
    "cpu": _NUMBER,
    "passed": _maybe(_TEXT),
    "duplicate_of": _ID,
    "recurring": _OBJECT,
    "percent": _maybe({"type": "number", "minimum": 0, "maximum": 100}),
    "note": _maybe(_TEXT),
    "group": _OBJECT,
    "by": _OBJECT,
}


def build() -> Schema:
    """The schema, draft 2020-12: a refusal of an action, or what is told and recorded of a task."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spool event or attempt record, format 1",
        "type": "object",
        "properties": {**_ALWAYS, **_OF_A_TASK, **_SOMETIMES},
        "required": list(_ALWAYS),
        "if": {"properties": {"event": {"const": "rejected"}}},
        "then": {"properties": {"outcome": {"const": "rejected"}}},
        "else": {"required": list(_OF_A_TASK), "properties": {"attempt": {"type": "integer"}}},
    }
