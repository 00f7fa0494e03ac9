"""Options of a call to the fields of an action, and the action to checked bytes."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import orjson

from spool.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import tzinfo

    from spool.signing import Key

When: TypeAlias = datetime | date | timedelta | str | int | float
Span: TypeAlias = timedelta | str | int | float
Backoff: TypeAlias = "Span | Mapping[str, Any]"

INSTANTS = ("at", "deadline", "until")
LISTS = ("after", "ids", "errors")  # in whatever order
PLACES = 8  # of a path that is told, at most
LAST_ZONE = timezone(timedelta(hours=-12))  # where a local time comes last


def fields(**options: Any) -> dict[str, Any]:
    """The options that were given, with times and durations as an action writes them."""
    return {name: _field(name, value) for name, value in options.items() if value is not None}


def plain(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action, its times and durations as an action writes them; args, meta and result as is."""
    free = ("args", "meta", "result", "tasks")
    return {name: value if name in free else _field(name, value) for name, value in action.items()}


def encoded(  # noqa: PLR0913 - what a client is
    doc: dict[str, Any],
    limit: int,
    now: int,
    zone: tzinfo | None = None,
    within: int = 0,
    key: Key | None = None,
) -> bytes:
    """The bytes of an action that spoold will take; Invalid names field, value and rule.

    It is read back by the same rules: what cannot be written, or would not be read, is refused.
    `now`: us UTC. `zone`: of local times; where it is not known, a time that may be still to come is.
    `within`: levels of what it will stand in. `key`: that it will be signed with.
    """
    try:
        data = orjson.dumps(doc)
    except TypeError as problem:
        raise _no_json(doc, problem) from None
    if b"null" in data:
        _refuse_nan(doc, "")
    if len(data) > limit:
        rule = f"must leave the action at most {limit} bytes (max_action_bytes), not {len(data)}"
        raise _too_much(doc, _size, rule)
    if key is not None and (size := key.weight(data)) > limit:
        rule = f"must leave the action at most {limit} bytes when it is signed, not {size}"
        raise _too_much(doc, _size, rule)
    from spool.actions import interpret  # milliseconds that who only looks need not spend
    from spool.strict import DEPTH, decode

    try:
        read = decode(data, limit=limit, depth=DEPTH - within)
    except Invalid as problem:  # that is all that can be wrong with it
        raise _too_much(doc, _depth, f"{problem.rule}, with what it stands in") from None
    interpret(read, now=now, dropped=now, zone=zone or LAST_ZONE, uid=None)
    return data


def _no_json(doc: dict[str, Any], problem: TypeError) -> Invalid:
    """Names the first place that cannot be written; where all in it can, its names cannot."""
    where, value = "", cast("Any", doc)
    for _ in range(PLACES):
        for name, inner in _inside(value):
            try:
                orjson.dumps(inner)
            except TypeError:
                where, value = f"{where}{name}", inner
                break
        else:
            break
    rule = f"must be JSON: {problem}"
    if "surrogates" in rule:  # what Python makes of other bytes on a command line
        rule = "must be UTF-8" if isinstance(value, str) else "must have names in UTF-8"
    return Invalid(where.removeprefix(".") or "document", None, rule)


def _inside(value: Any) -> Iterable[tuple[str, Any]]:
    """What a value holds, as a path goes on to it."""
    from spool.strict import label

    if isinstance(value, dict):
        return ((f".{label(str(name))}", inner) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ((f"[{index}]", inner) for index, inner in enumerate(value))
    return ()


def _too_much(doc: dict[str, Any], weigh: Callable[[Any], int], rule: str) -> Invalid:
    """The field that weighs most is named, of `args` the argument."""
    name, value = max(_inside(doc), key=lambda row: weigh(row[1]))
    field = name.removeprefix(".")
    if field == "args":
        rule += "; put what is large into a file, and submit its path or attach it (files)"
        if isinstance(value, dict) and value:
            field += max(_inside(value), key=lambda row: weigh(row[1]))[0]
    return Invalid(field, None, rule)


def _size(value: Any) -> int:
    return len(orjson.dumps(value))


def _depth(value: Any) -> int:
    return 1 + max((_depth(inner) for _, inner in _inside(value)), default=0)


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
        case tuple() | set() | frozenset() if isinstance(value, tuple) or name in LISTS:
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
        rule = "must hold no NaN or infinity: they are not JSON"
        raise Invalid(where.removeprefix(".") or "document", None, rule)
    for name, inner in _inside(value):
        _refuse_nan(inner, f"{where}{name}")
