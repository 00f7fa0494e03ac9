"""How the wait between two attempts grows."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from spool.errors import Invalid
from spool.times import DAY, HOUR, SECOND, parse_duration

MAX_WAIT = 30 * DAY
MAX_FACTOR = 100
DEFAULT_FACTOR = 2.0
PARTS = ("base", "factor", "max")


class Backoff(Struct, frozen=True, kw_only=True):
    """base * factor^n, at most max; base and max are microseconds."""

    base: int
    factor: float
    max: int


def parse_backoff(value: object, name: str = "backoff") -> Backoff:
    """A duration, or an object of base, factor (2) and max (1 h, or base where that is longer).

    Raises Invalid; `name` is how its field is called there.
    """
    if not isinstance(value, dict):
        base = _wait(value, name)
        return Backoff(base=base, factor=DEFAULT_FACTOR, max=max(base, HOUR))
    for part in value:
        if part not in PARTS:
            raise Invalid(name, part, "must be a duration, or an object of base, factor and max")
    if "base" not in value:
        raise Invalid(f"{name}.base", None, "is required")
    base = _wait(value["base"], f"{name}.base")
    most = _wait(value["max"], f"{name}.max") if "max" in value else max(base, HOUR)
    factor = _factor(value.get("factor", DEFAULT_FACTOR), f"{name}.factor")
    return Backoff(base=base, factor=factor, max=most)


def plain_backoff(backoff: Backoff) -> dict[str, Any]:
    """The backoff as parse_backoff reads it, in seconds."""
    return {
        "base": seconds(backoff.base),
        "factor": backoff.factor,
        "max": seconds(backoff.max),
    }


def seconds(us: int) -> int | float:
    """Microseconds as a number of seconds that parse_duration reads back exactly."""
    return us / SECOND if us % SECOND else us // SECOND


def _wait(value: object, name: str) -> int:
    try:
        us = parse_duration(value)
    except ValueError as error:
        raise Invalid(name, value, str(error)) from None
    if us > MAX_WAIT:
        raise Invalid(name, value, "must be at most 30 d")
    return us


def _factor(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(name, value, f"must be a number from 1 to {MAX_FACTOR}")
    if not 1 <= value <= MAX_FACTOR:  # false for NaN
        raise Invalid(name, value, f"must be a number from 1 to {MAX_FACTOR}")
    return float(value)
