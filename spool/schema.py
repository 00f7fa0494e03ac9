"""The action file as JSON Schema, built from the table of fields, for clients in any language.

It cannot say what depends on the clock or on other fields: whether a date exists and lies in
range, the size of meta and of text durations, all-zero trace ids, the date inside an id, NUL in
x-... fields, characters of a key that cannot be printed, node beside task, twice the same id or key
in a batch, the arguments of spool.run, the names that begin with spool. and are ours, what cron takes.
An integer written as 1.0 passes here and is refused there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import names
from spool.backoff import DEFAULT_FACTOR, MAX_FACTOR, MAX_WAIT
from spool.fields import ACTIONS, CONTROLS, MAX_KEY, MAX_TASKS, REQUIRED, TAKES
from spool.fingerprint import FINGERPRINT
from spool.kinds import ERROR_PARTS, MAX_VERSION, TRACE
from spool.knobs import RECURRING_ROWS
from spool.layout import STATES
from spool.patterns import PATTERN
from spool.results import RESULT
from spool.schedule import MAX_TEXT
from spool.times import DURATION, SECOND, TIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.fields import Field

Schema = dict[str, Any]

_NAME, _ID = f"^{names.TASK}$", f"^{names.ID}$"
_fingerprint = {"type": "string", "pattern": f"^{FINGERPRINT}$"}
_NO_NUL = r"^[^\x00]*$"
_TOGETHER = {"key_for": ["key"], "files": ["id"]}
_RESULTS = {"$ref": "#/$defs/results"}
_RESULTS_IN_ARGS = {"required": ["args"], "properties": {"args": _RESULTS}}
_ALONE = {  # what stands there without the field it goes with: its default
    "on_duplicate": {
        "anyOf": [{"required": ["key"]}, {"properties": {"on_duplicate": {"const": "keep"}}}]
    },
    "on_failure": {
        "anyOf": [
            {"required": ["after"]},
            _RESULTS_IN_ARGS,
            {"properties": {"on_failure": {"const": "wait"}}},
        ]
    },
}


def build() -> Schema:
    """The schema, draft 2020-12: one branch per action, one for a batch and one for what recurs."""
    task = _together(_open(_properties("submit"), REQUIRED["submit"]))
    results = {
        "description": "names the result of another task, at any depth",
        "anyOf": [
            {"type": "object", "required": [RESULT]},
            {"type": "object", "not": {"additionalProperties": {"not": _RESULTS}}},
            {"type": "array", "contains": _RESULTS},
        ],
    }
    branches = [_action(action) for action in ACTIONS]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spool action, format 1",
        "oneOf": [*branches, _batch(), _again()],
        "$defs": {"task": task, "results": results},
    }


def _together(task: Schema) -> Schema:
    return {**task, "dependentRequired": _TOGETHER, "dependentSchemas": _ALONE}


def _action(action: str) -> Schema:
    properties = {"action": {"const": action}, **_properties(action)}
    required = REQUIRED[action] if action == "submit" else ("action", *REQUIRED[action])
    made = _open(properties, required)
    if action == "move":
        names = ("priority", "position", "at", "deadline")
        made["anyOf"] = [{"required": [name]} for name in names]
    if "match" in TAKES[action]:
        made["oneOf"] = [{"required": [name]} for name in ("ids", "match")]
    if action in CONTROLS:
        made["not"] = {"required": ["node", "task"]}
    if action == "submit":
        made = _together(made)
    return {"title": action, **made}


def _batch() -> Schema:
    tasks = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_TASKS,
        "items": {"$ref": "#/$defs/task"},
    }
    fields = {name: row for name, row in _properties("submit").items() if name != "after"}
    fields["on_failure"] = {**fields["on_failure"], "default": "run"}
    then = {
        **_open(fields, REQUIRED["submit"]),
        "description": "runs after all of them, or after the first failure",
        "dependentRequired": _TOGETHER,
        "dependentSchemas": {"on_duplicate": _ALONE["on_duplicate"]},
    }
    properties = {"action": {"const": "submit"}, "tasks": tasks, "then": then}
    return {"title": "submit, many", **_closed(properties, ("tasks",))}


def _again() -> Schema:
    """A task that comes again and again: the table of a schedule, and what stands beside it."""
    tasks = TAKES["submit"]
    beside = {name: _described(tasks[name]) for name in ("id", "tz")}
    name = {**_described(TAKES["schedule"]["name"]), "description": "what the schedule is called"}
    more = {"action": {"const": "submit"}, **beside, "key": name}
    made = _schedule()
    return {"title": "submit, again and again", **made, "properties": {**made["properties"], **more}}


def _schedule() -> Schema:
    properties = {name: _described(row) for name, row in RECURRING_ROWS.items()}
    return _open(properties, ("every", "task"))


def _described(row: Field) -> Schema:
    found = {**_SCHEMAS[row.kind](row), "description": row.text}
    return found if row.default in (None, ()) else {**found, "default": row.default}


def _closed(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _open(properties: Schema, required: tuple[str, ...]) -> Schema:
    """The same, with x-... fields."""
    return {**_closed(properties, required), "patternProperties": {"^x-": {}}}


def _properties(action: str) -> Schema:
    return {name: _described(row) for name, row in TAKES[action].items()}


def _duration(low: int, high: int) -> Schema:
    least = "exclusiveMinimum" if low == 1 else "minimum"
    number = {"type": "number", least: 0, "maximum": high / SECOND}
    return {"anyOf": [number, {"type": "string", "minLength": 2, "pattern": f"^{DURATION}$"}]}


def _time(_row: Field) -> Schema:
    return {
        "anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": f"^{TIME}$"},
            {"type": "string", "minLength": 3, "pattern": rf"^\+{DURATION}$"},
        ]
    }


def _backoff(_row: Field) -> Schema:
    wait = _duration(0, MAX_WAIT)
    factor = {"type": "number", "minimum": 1, "maximum": MAX_FACTOR, "default": DEFAULT_FACTOR}
    properties = {"base": wait, "factor": factor, "max": wait}
    return {"anyOf": [*wait["anyOf"], _closed(properties, ("base",))]}


def _error(_row: Field) -> Schema:
    parts = {
        name: {"type": "string", "maxLength": high, "pattern": _NO_NUL}
        for name, high in ERROR_PARTS.items()
    }
    return {"anyOf": [parts["message"], {**_closed(parts), "minProperties": 1}]}


def _text(row: Field) -> Schema:
    return {"type": "string", "maxLength": row.high, "pattern": _NO_NUL}


def _ids(row: Field) -> Schema:
    one = {"type": "string", "pattern": _ID}
    return {"type": "array", "minItems": row.low, "maxItems": row.high, "items": one}


def _files(row: Field) -> Schema:
    one = {"type": "string", "pattern": _NAME}
    return {
        "type": "array", "minItems": row.low, "maxItems": row.high, "uniqueItems": True, "items": one
    }  # fmt: skip


def _match(_row: Field) -> Schema:
    parts = {
        "task": {"type": "string", "pattern": f"^{PATTERN}$"},
        "state": {"enum": list(STATES)},
        "since": _time(_row),
        "until": _time(_row),
        "error": _fingerprint,
        "after": {"type": "string", "pattern": _ID},
        "key": {"type": "string", "maxLength": MAX_KEY, "pattern": _NO_NUL},
    }
    return {**_closed(parts), "minProperties": 1}


def _errors(row: Field) -> Schema:
    return {"type": "array", "minItems": row.low, "maxItems": row.high, "items": _fingerprint}


def _version(_row: Field) -> Schema:
    number = {"type": "integer", "minimum": 0, "maximum": MAX_VERSION}
    return {"anyOf": [number, {"type": "string", "pattern": _NAME}]}


def _pattern(pattern: str) -> Callable[[Field], Schema]:
    return lambda _row: {"type": "string", "pattern": pattern}


def _after(row: Field) -> Schema:
    return {**_ids(row), "items": {"type": "string", "pattern": _NAME}}


_SCHEMAS: dict[str, Callable[[Field], Schema]] = {
    "after": _after,
    "files": _files,
    "ahead": _time,
    "any": lambda _row: {},
    "backoff": _backoff,
    "choice": lambda row: {"enum": list(row.choices)},
    "count": lambda row: {"type": "integer", "minimum": row.low, "maximum": row.high},
    "duration": lambda row: _duration(row.low or 0, row.high or 0),
    "error": _error,
    "errors": _errors,
    "every": lambda _row: {"type": ["string", "number"], "maxLength": MAX_TEXT},
    "flag": lambda _row: {"type": "boolean"},
    "id": _pattern(_ID),
    "ids": _ids,
    "json": lambda _row: {},
    "key": lambda row: {"type": "string", "minLength": 1, "maxLength": row.high},
    "later": lambda row: _duration(row.low or 0, row.high or 0),
    "match": _match,
    "meta": lambda _row: {"type": "object"},
    "name": _pattern(_NAME),
    "percent": lambda _row: {"type": "number", "minimum": 0, "maximum": 100},
    "place": lambda _row: {"type": "string", "maxLength": 255},
    "scope": _pattern(f"^@?{PATTERN}$"),
    "table": lambda _row: _schedule(),
    "text": _text,
    "time": _time,
    "trace": _pattern(f"^{TRACE}$"),
    "version": _version,
    "zone": lambda _row: {"type": "string", "minLength": 1, "maxLength": 255},
}
