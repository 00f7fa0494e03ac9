"""What each kind of field accepts: a value from outside in, a checked value out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from spool import layout, names, patterns, times
from spool.backoff import PARTS as BACKOFF_PARTS
from spool.backoff import Backoff, parse_backoff
from spool.errors import Invalid
from spool.fields import MAX_KEY, nearest
from spool.fingerprint import FINGERPRINT
from spool.requests import Match
from spool.strict import label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import tzinfo

    from spool.fields import Field

ERROR_PARTS = {"type": 200, "message": 10_000, "trace": 65_536}
MAX_VERSION = 2**31
TRACE = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"

_FINGERPRINT = re.compile(FINGERPRINT)
_TRACE = re.compile(rf"(?!ff)(?!..-0{{32}})(?!.{{36}}0{{16}}){TRACE}")


class Moment(Struct, frozen=True, kw_only=True):
    """What the meaning of a time depends on: now, the drop it is relative to, the local zone."""

    now: int
    dropped: int
    zone: tzinfo


def read(field: Field, value: object, moment: Moment) -> Any:
    """The value a field stands for; Invalid with the field's name where it breaks the rule."""
    try:
        return _READ[field.kind](field, value, moment)
    except ValueError as error:
        instead = "it" if field.required else "leave it out, or else it"
        rule = f"must not be null: {instead} {error}" if value is None else str(error)
        raise Invalid(field.name, value, rule) from None


def free(name: str, value: object) -> Any:
    """What an x-... field holds; Invalid where it, or its name, has a NUL."""
    if _has_nul(name) or _has_nul(value):
        raise Invalid(label(name), None, "must hold no NUL")
    return value


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def wrong(rule: str) -> ValueError:
    """The error a reader raises: the rule that was broken, as text."""
    return ValueError(rule)


def _any(_field: Field, value: object, _moment: Moment) -> object:
    return value


def _name(_field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or not names.is_task(value):
        raise wrong(NAME_RULE)
    return value


def _pattern(_field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or not patterns.is_pattern(value):
        raise wrong("must be a task name, or one with * for any characters")
    return value


def _scope(field: Field, value: object, moment: Moment) -> str:
    """A pattern, or with @ before it one of schedules: no task has such a name."""
    if isinstance(value, str) and value[:1] == "@" and patterns.is_pattern(value[1:]):
        return value
    return _pattern(field, value, moment)


def _id(_field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or not (
        names.is_id(value) and names.EARLIEST <= names.id_time(value) < names.LATEST
    ):
        raise wrong("must be a UUIDv7 as 32 lower-case hex digits, of a date between 2000 and 2100")
    return value


def _ids(field: Field, value: object, moment: Moment) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= (field.high or 1):
        raise wrong(f"must be a list of 1 to {field.high} ids")
    for index, one in enumerate(value):
        try:
            _id(field, one, moment)
        except ValueError as error:
            raise Invalid(f"{field.name}[{index}]", one, str(error)) from None
    return tuple(dict.fromkeys(value))


def _after(field: Field, value: object, _moment: Moment) -> tuple[str, ...]:
    """Ids, and in a batch names that its tasks have there: which of them there are is seen later."""
    if not isinstance(value, list) or not 1 <= len(value) <= (field.high or 1):
        raise wrong(f"must be a list of 1 to {field.high} ids, or names of tasks of the batch")
    for index, one in enumerate(value):
        if not isinstance(one, str) or not names.is_task(one):
            raise Invalid(
                f"{field.name}[{index}]", one, "must be an id, or the ref of a task of the batch"
            )
    return tuple(dict.fromkeys(value))


def _files(field: Field, value: object, moment: Moment) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= (field.high or 1):
        raise wrong(f"must be a list of 1 to {field.high} names of files")
    for index, one in enumerate(value):
        try:
            _name(field, one, moment)
        except ValueError as error:
            raise Invalid(f"{field.name}[{index}]", one, str(error)) from None
    if len(set(value)) < len(value):
        raise wrong("must name no file twice")
    return tuple(value)


def _table(_field: Field, value: object, _moment: Moment) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong("must be an object with what [recurring.NAME] takes, such as every and task")
    return value


def _time(_field: Field, value: object, moment: Moment) -> int:
    return times.parse_time(value, now_us=moment.now, zone=moment.zone, base_us=moment.dropped)


def _ahead(field: Field, value: object, moment: Moment) -> int:
    found = _time(field, value, moment)
    if found <= moment.dropped:
        raise ValueError("must be a time that is still to come")
    return found


def _duration(field: Field, value: object, _moment: Moment) -> int:
    us = times.parse_duration(value)
    if field.low is not None and us < field.low:
        least = "more than 0 s" if field.low == 1 else f"at least {times.format_span(field.low)}"
        raise wrong(f"must be {least}")
    if field.high is not None and us > field.high:
        raise wrong(f"must be at most {times.format_span(field.high)}")
    return us


def _zone(_field: Field, value: object, _moment: Moment) -> tzinfo:
    return times.zone(value)


def _choice(field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or value not in field.choices:
        raise wrong(f"must be one of {', '.join(field.choices)}")
    return value


def _count(field: Field, value: object, _moment: Moment) -> int:
    if type(value) is not int:
        raise wrong(f"must be an integer from {field.low} to {field.high}")
    if not (field.low or 0) <= value <= (field.high or value):
        raise wrong(f"must be from {field.low} to {field.high}")
    return value


def _flag(_field: Field, value: object, _moment: Moment) -> bool:
    if not isinstance(value, bool):
        raise wrong("must be true or false")
    return value


def _match(field: Field, value: object, moment: Moment) -> Match:
    """An object of at least one part; each part is read as a field of this kind is."""
    if not isinstance(value, dict) or not value:
        raise wrong(f"must be an object of at least one of {', '.join(_PARTS)}")
    found: dict[str, Any] = {}
    for name, part in value.items():
        if name not in _PARTS:
            raise _unknown(field, name, part, _PARTS)
        try:
            found[name] = _PARTS[name](field, part, moment)
        except ValueError as error:
            raise Invalid(f"{field.name}.{name}", part, str(error)) from None
    return Match(**found)


def _unknown(field: Field, part: str, value: object, known: Iterable[str]) -> Invalid:
    rule = f"is no part of {field.name}"
    return Invalid(f"{field.name}.{label(part)}", value, rule, nearest(part, known))


def _state(_field: Field, value: object, _moment: Moment) -> str:
    if value not in layout.STATES:
        raise wrong(f"must be one of {', '.join(layout.STATES)}")
    return str(value)


def _fingerprint(_field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or _FINGERPRINT.fullmatch(value) is None:
        raise wrong("must be the fingerprint of an error: 16 lower-case hex digits")
    return value


def _errors(field: Field, value: object, moment: Moment) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= (field.high or 1):
        raise wrong(f"must be a list of 1 to {field.high} fingerprints")
    return tuple(dict.fromkeys(_fingerprint(field, one, moment) for one in value))


def _percent(_field: Field, value: object, _moment: Moment) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise wrong("must be a number from 0 to 100")
    return float(value)


def _text(field: Field, value: object, _moment: Moment) -> str:
    return bounded(value, field.high or 0)


def bounded(value: object, high: int) -> str:
    """Text of at most `high` characters without NUL; ValueError where it is not."""
    if not isinstance(value, str) or len(value) > high or "\0" in value:
        raise wrong(f"must be text of at most {high} characters without NUL")
    return value


def _key(field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= (field.high or 1) or not value.isprintable():
        raise wrong(f"must be text of 1 to {field.high} characters that can be printed")
    return value


def _backoff(field: Field, value: object, _moment: Moment) -> Backoff:
    parts = value if isinstance(value, dict) else {}
    for part, inner in parts.items():
        if part not in BACKOFF_PARTS:
            raise _unknown(field, part, inner, BACKOFF_PARTS)
    return parse_backoff(value, field.name)


def _version(_field: Field, value: object, _moment: Moment) -> int | str:
    if type(value) is int and 0 <= value <= MAX_VERSION:
        return value
    if isinstance(value, str) and names.is_task(value):
        return value
    raise wrong("must be an integer from 0 to 2147483648, or a name such as 1.4.2")


def _trace(_field: Field, value: object, _moment: Moment) -> str:
    if not isinstance(value, str) or _TRACE.fullmatch(value) is None:
        raise wrong("must be a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>")
    return value


def _meta(field: Field, value: object, _moment: Moment) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong("must be an object")
    if len(orjson.dumps(value)) > (field.high or 0):
        raise wrong(f"must be at most {field.high} bytes")
    return value


def _error(field: Field, value: object, _moment: Moment) -> dict[str, str]:
    """Always type, message and trace, whatever was left out."""
    given = {"message": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not given:
        raise wrong("must be text, or an object of type, message and trace")
    made = {"type": "error", "message": "", "trace": ""}
    for part, text in given.items():
        if part not in ERROR_PARTS:
            raise _unknown(field, part, text, ERROR_PARTS)
        try:
            made[part] = bounded(text, ERROR_PARTS[part])
        except ValueError as error:
            raise Invalid(f"{field.name}.{part}", text, str(error)) from None
    return made


_PARTS: dict[str, Callable[[Field, Any, Moment], Any]] = {
    "task": _pattern,
    "state": _state,
    "since": _time,
    "until": _time,
    "error": _fingerprint,
    "after": _id,
    "key": lambda _field, value, _moment: bounded(value, MAX_KEY),
}
_READ: dict[str, Callable[[Field, Any, Moment], Any]] = {
    "after": _after,
    "ahead": _ahead,
    "any": _any,
    "backoff": _backoff,
    "choice": _choice,
    "count": _count,
    "duration": _duration,
    "error": _error,
    "errors": _errors,
    "files": _files,
    "flag": _flag,
    "id": _id,
    "ids": _ids,
    "key": _key,
    "match": _match,
    "meta": _meta,
    "name": _name,
    "pattern": _pattern,
    "percent": _percent,
    "scope": _scope,
    "table": _table,
    "text": _text,
    "time": _time,
    "trace": _trace,
    "version": _version,
    "zone": _zone,
}
