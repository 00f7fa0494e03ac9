"""Every field an action may have: one row each, for validation, the JSON Schema and the manual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool.backoff import MAX_WAIT
from spool.names import PRIORITIES
from spool.owncopy import DUPLICATES, ON_FAILURE
from spool.times import YEAR

if TYPE_CHECKING:
    from collections.abc import Iterable

VERBS = ("cancel", "retry", "hold", "release", "move")  # what people may ask of tasks
CONTROLS = ("pause", "resume", "drain")
CARES = ("resolve", "mute", "reopen")
ATTEMPTS = ("ack", "fail", "extend", "progress")
ACTIONS = ("submit", *VERBS, "replay", *ATTEMPTS, *CONTROLS, *CARES, "prune", "schedule")
MAX_IDS = 10_000
MAX_ERRORS = 1000
MAX_TASKS = 10_000
MAX_META = 64 * 1024
MAX_KEY = 200
MAX_AFTER = 10_000
MAX_FILES = 100
MAX_ATTEMPT = 10**9


class Field(Struct, frozen=True, kw_only=True):
    """One field: what it accepts (`kind`, see spool.kinds), within which bounds, where.

    low and high bound the value: a count, a length, a number of bytes; microseconds for durations.
    """

    name: str
    kind: str
    text: str
    actions: tuple[str, ...] = ()
    required: bool = False
    default: Any = None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()


def _row(name: str, kind: str, actions: str, text: str, **more: Any) -> Field:
    return Field(name=name, kind=kind, actions=tuple(actions.split()), text=text, **more)


_ALL = " ".join(ACTIONS)
_BY_IDS = " ".join((*VERBS, "replay"))
_BY_ATTEMPT = " ".join(ATTEMPTS)
_CONTROL = " ".join(CONTROLS)
_CARE = " ".join(CARES)

_WAIT = {"low": 0, "high": MAX_WAIT}
_SPAN = {"low": 1, "high": MAX_WAIT}  # more than 0
_MUST = {"required": True}
_TZ = f"submit {_BY_IDS} pause drain mute"
_MISS = ("run", "drop", "fail")
_ENDS = ("front", "back")

# fmt: off
FIELDS: tuple[Field, ...] = (
    _row("task", "name", "submit", "what to do: the name a handler is bound to", **_MUST),
    _row("args", "any", "submit", "what the handler gets: any JSON", default={}),
    _row("id", "id", "submit", "a UUIDv7, so that the same task may be sent twice safely"),
    _row("at", "time", "submit move", "nothing runs before; left out, the moment of the drop"),
    _row("deadline", "time", "submit move", "when it should be done; it is lifted before that"),
    _row("tz", "zone", _TZ, "time zone of the local times in this action"),
    _row("lead", "duration", "submit", "how long before its deadline it is lifted", **_WAIT),
    _row("priority", "choice", "submit move", "the class it waits in", choices=PRIORITIES),
    _row("position", "choice", "submit move", "front of its class, or back", choices=_ENDS),
    _row("retries", "count", "submit", "attempts after a failed one", low=0, high=1000),
    _row("backoff", "backoff", "submit", "wait before a retry: a duration, or base, factor, max"),
    _row("timeout", "duration", "submit", "how long an attempt may take", **_SPAN),
    _row("version", "version", "submit", "the version of the code it is meant for"),
    _row("notify", "name", "submit", "the parent whose outbox gets its events"),
    _row("on_miss", "choice", "submit", "once its deadline passed", default="run", choices=_MISS),
    _row("trace", "trace", "submit", "W3C traceparent, handed to the handler"),
    _row("replay_of", "id", "submit", "the task it repeats: kept, told, and handed to the handler"),
    _row("after", "after", "submit", "the tasks that must be done before it", low=1, high=MAX_AFTER,
         default=()),
    _row("on_failure", "choice", "submit", "once one of these has failed", default="wait",
         choices=ON_FAILURE),
    _row("ref", "name", "submit", "what other tasks of the batch call it in after"),
    _row("files", "files", "submit", "the files that come with it, in tmp/ as ID,NAME", low=1,
         high=MAX_FILES, default=()),
    _row("key", "key", "submit", "at most one unfinished task with this key", high=MAX_KEY),
    _row("key_for", "duration", "submit", "how long after its end the key stays taken", **_SPAN),
    _row("on_duplicate", "choice", "submit", "what a taken key means", default="keep",
         choices=DUPLICATES),
    _row("ids", "ids", _BY_IDS, "the tasks it is about", default=(), low=1, high=MAX_IDS),
    _row("match", "match", _BY_IDS, "instead: by task, state, since, until, error, after, key"),
    _row("id", "id", "replay", "a UUIDv7, so that the same replay may be sent twice safely"),
    _row("force", "flag", "replay", "replay also what is not replayable", default=False),
    _row("id", "id", _BY_ATTEMPT, "the task whose attempt it is about", **_MUST),
    _row("attempt", "count", _BY_ATTEMPT, "its number; a stale one changes nothing",
         low=1, high=MAX_ATTEMPT, **_MUST),
    _row("result", "any", "ack", "what came out: any JSON"),
    _row("error", "error", "fail", "what went wrong: text, or type, message, trace", **_MUST),
    _row("retry", "flag", "fail", "whether another attempt makes sense", default=True),
    _row("delay", "duration", "fail", "wait before it, not the backoff", low=0, high=5 * YEAR),
    _row("by", "duration", "extend", "how much longer the attempt may take", **_SPAN, **_MUST),
    _row("percent", "percent", "progress", "how far it is, 0 to 100"),
    _row("note", "text", "progress", "what it is doing", high=1000),
    _row("node", "name", _CONTROL, "the node it is about; left out, all of them"),
    _row("task", "scope", _CONTROL, "the task names, or schedules as @NAME, it is about; * for any"),
    _row("who", "text", _CONTROL, "who asked for it", high=200),
    _row("why", "text", f"{_BY_IDS} {_CONTROL} {_CARE} prune schedule",
         "the reason, for whoever asks later", high=1000),
    _row("until", "ahead", "pause drain mute", "when it ends by itself"),
    _row("name", "name", "schedule", "what it is called", **_MUST),
    _row("table", "table", "schedule", "as in [recurring.NAME]: every, task ...; none removes it"),
    _row("errors", "errors", _CARE, "the fingerprints of the groups", low=1, high=MAX_ERRORS, **_MUST),
    _row("meta", "meta", _ALL, "kept with a task and given back, never read", default={}, high=MAX_META),
)
# fmt: on

TAKES: dict[str, dict[str, Field]] = {
    action: {row.name: row for row in FIELDS if action in row.actions} for action in ACTIONS
}
REQUIRED: dict[str, tuple[str, ...]] = {
    action: tuple(row.name for row in rows.values() if row.required) for action, rows in TAKES.items()
}

# What each task of a schedule carries as a submitted one does, and why it carries nothing else.
CARRIED = (
    "priority", "position", "lead", "retries", "backoff", "timeout", "version", "notify", "on_miss",
    "trace", "meta",
)  # fmt: skip
_ALONE = "is for one task, and a schedule makes many"
_WAITS = "is no matter of a schedule: its tasks wait for their times alone"
_OVERLAP = "is no matter of a schedule: overlap says what happens while the task before has not ended"
NOT_CARRIED = {
    "id": f"{_ALONE}, each with an id made of its time",
    "at": "is no matter of a schedule: every says when",
    "tz": "is called timezone in a schedule",
    **dict.fromkeys(("replay_of", "ref", "then"), _ALONE),
    **dict.fromkeys(("after", "on_failure"), _WAITS),
    **dict.fromkeys(("key", "key_for", "on_duplicate"), _OVERLAP),
    "files": f"{_ALONE}: say in args where they are",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name someone probably meant, in whatever case of letters."""
    import difflib  # only a refusal needs it

    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name[:64].lower(), list(by_lower), 1)
    return by_lower[found[0]] if found else None


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an action file; see spool.schema for what it cannot say."""
    from spool.schema import build  # one command needs it

    return build()
