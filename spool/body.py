"""Options of a call to the fields of an action, and the action to checked bytes."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from spool.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

When: TypeAlias = datetime | date | timedelta | str | int | float
Span: TypeAlias = timedelta | str | int | float
Backoff: TypeAlias = "Span | Mapping[str, Any]"

INSTANTS = ("at", "deadline", "until")
LAST_ZONE = timezone(timedelta(hours=-12))  # where a local time comes last


def fields(**options: Any) -> dict[str, Any]:
    """The options that were given, with times and durations as an action writes them."""
    return {name: _field(name, value) for name, value in options.items() if value is not None}


def plain(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action, its times and durations as an action writes them; args, meta and result as is."""
    free = ("args", "meta", "result", "tasks")
    return {name: value if name in free else _field(name, value) for name, value in action.items()}


def encoded(
    doc: dict[str, Any], limit: int, now: int, zone: tzinfo | None = None, within: int = 0
) -> bytes:
    """The bytes of an action that spoold will take; Invalid names field, value and rule.

    It is read back by the same rules: what cannot be written, or would not be read, is refused.
    `now`: us UTC. `zone`: of local times; where it is not known, a time that may be still to come is.
    `within`: levels of what it will stand in.
    """
    try:
        data = orjson.dumps(doc)
    except TypeError as problem:
        raise Invalid(_no_json(doc), None, f"must be JSON: {problem}") from None
    if b"null" in data:
        _refuse_nan(doc, "")
    from spool.actions import interpret  # milliseconds that who only looks need not spend
    from spool.strict import DEPTH, decode

    read = decode(data, limit=limit, depth=DEPTH - within)
    interpret(read, now=now, dropped=now, zone=zone or LAST_ZONE, uid=None)
    return data


def _no_json(doc: dict[str, Any]) -> str:
    """The first field that cannot be written; where they all can, it is their names that cannot."""
    for name, value in doc.items():
        try:
            orjson.dumps(value)
        except TypeError:
            return str(name)
    return "document"


def _field(name: str, value: Any) -> Any:
    match value:
        case datetime():
            return _instant(value)
        case date():
            return value.isoformat()
        case timedelta():
            return f"+{_seconds(value)}s" if name in INSTANTS else value.total_seconds()
        case dict() if name == "backoff":
            return {part: _field(part, inner) for part, inner in value.items()}
        case tuple() | set() | frozenset():
            return list(value)
        case _:
            return value


def _instant(value: datetime) -> str:
    """Aware: RFC 3339 in UTC. Naive: local, read in the action's `tz` or the spool's time zone."""
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _seconds(value: timedelta) -> str:
    us = value // timedelta(microseconds=1)
    if us < 0:
        raise Invalid("time", str(value), "must not be a negative time from now")
    return f"{us // 1_000_000}.{us % 1_000_000:06d}"


def _refuse_nan(value: object, where: str) -> None:
    """JSON has no NaN and no infinity: orjson would write null, and something else would arrive."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(where or "document", None, "must hold no NaN or infinity: they are not JSON")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_nan(inner, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_nan(inner, f"{where}[{index}]")
