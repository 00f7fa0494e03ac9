"""Attempt records and events: one shape for both, written as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from spool.errors import Invalid
from spool.owncopy import deadline_of
from spool.safe import safe_json
from spool.times import format_utc, maybe_utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spool.actions import Task
    from spool.names import Entry

VERSION = 1
# Args and a result of 64 MiB each, whose numbers may be written at more length than they came.
RECORD_LIMIT = 1 << 29
OUTCOMES = ("ok", "error", "timeout", "crashed", "lost", "snoozed", "cancelled", "rejected")


class _Ending(msgspec.Struct):
    id: str
    task: Any = None
    event: Any = None
    entry: Any = None
    will_retry: Any = None
    submitted_by: Any = None
    error: Any = None
    result: msgspec.Raw = msgspec.Raw(b"null")


_ENDING = msgspec.json.Decoder(_Ending)


def record(  # noqa: PLR0913 - the facts of an attempt
    *,
    event: str,
    task: Task,
    entry: Entry,
    node: str,
    parent: str,
    now: int,
    outcome: str | None = None,
    started: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What one attempt came to, or (outcome None) what is true of a task that runs.

    `now` and `started` are us UTC; `more` fills in: result, error, exit, signal, seconds,
    peak_rss, cpu, log, next_at (us), will_retry, passed, duplicate_of, note, entry (path the task
    moved to).
    """
    ended = now if outcome is not None else None
    found = {
        "v": VERSION,
        "event": event,
        "id": entry.id,
        "task": entry.task,
        "version": task.version,
        "replay_of": task.replay_of,
        "key": task.key,
        "args": task.args,
        "meta": task.meta,
        "attempt": entry.attempt,
        "outcome": outcome,
        "result": None,
        "error": None,
        "exit": None,
        "signal": None,
        "submitted_at": format_utc(task.submitted_at),
        "submitted_by": {"uid": task.uid, "key": task.signer},
        "at": format_utc(entry.time),
        "deadline": maybe_utc(deadline_of(task, entry)),
        "started_at": maybe_utc(started),
        "ended_at": maybe_utc(ended),
        "seconds": None,
        "peak_rss": None,
        "node": node,
        "log": None,
        "next_at": None,
        "will_retry": False,
        "passed": None,
        "class": entry.prio,
        "parent": parent,
        "entry": None,
    }
    if task.recurring is not None:
        found["recurring"] = task.recurring
    if "next_at" in more:
        more["next_at"] = maybe_utc(more["next_at"])
    found.update(more)
    return found


def error(kind: str, message: str, trace: str | None = None) -> dict[str, Any]:
    """The error of a record."""
    return {"type": kind, "message": message, "trace": trace, "fingerprint": None}


def failure(newest_first: Iterable[dict[str, Any]]) -> str | None:
    """The fingerprint of the newest failure, None where an attempt has succeeded since.

    An attempt that was lost, cancelled or put off is neither.
    """
    for one in newest_first:
        error = one.get("error")
        found = error.get("fingerprint") if isinstance(error, dict) else None
        if found is not None or one.get("outcome") == "ok":
            return found if isinstance(found, str) else None
    return None


def encode(content: dict[str, Any]) -> bytes:
    """A record, an event or a line of the journal: JSON that no terminal acts on, and a newline."""
    data = orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    plain = data.isascii() and b"\x7f" not in data
    return data if plain else safe_json(data[:-1].decode()).encode() + data[-1:]


def decode(data: bytes) -> dict[str, Any]:
    """The object in a record's or event's bytes; Invalid where it is damaged."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        raise Invalid("record", None, f"is not JSON: {problem}") from None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise Invalid("record", None, "is not an object with an id")
    return found


def decode_ending(data: bytes) -> dict[str, Any]:
    """What a record says of an end, its result a msgspec.Raw; Invalid where it is damaged.

    To parse all of a record, its args and what it came to, can take a hundred times as long.
    """
    try:
        return msgspec.structs.asdict(_ENDING.decode(data))
    except (msgspec.DecodeError, RecursionError) as problem:
        raise Invalid("record", None, f"is not JSON, or no object with an id: {problem}") from None
