"""Durations and instants as people write them, turned into integer microseconds and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from spool.names import EARLIEST, LATEST, clock_of, date_of

if TYPE_CHECKING:
    from datetime import tzinfo

MS = 1000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 366 * DAY
FOREVER = 1 << 62  # us: longer than any spool lasts
LONGEST = 100 * YEAR

_UNITS = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": MS}
_FRACTION_DIGITS = 9

# Patterns as any regular expression engine reads them; the exported schema uses them too.
DURATION = "".join(f"(?:([0-9]{{1,12}}(?:\\.[0-9]{{1,9}})?){unit})?" for unit in _UNITS)
TIME = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,18}))?)?"
    r"(Z|z|[+-][0-9]{2}:[0-9]{2})?)?"
)

_DURATION = re.compile(DURATION)
_TIME = re.compile(TIME)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a wall clock without a zone, on purpose)
_START = _EPOCH.replace(tzinfo=UTC)
_SAFE_YEARS = range(1999, 2300)  # far enough from the ends of datetime for every offset

_DURATION_RULE = "must be seconds as a number, or text such as 90s, 2h30m, 3d or 500ms"
_TIME_RULE = (
    "must be a time such as 2026-11-21T14:30:00Z, 2026-11-21 14:30, 2026-11-21, Unix seconds or +2h30m"
)
_RANGE_RULE = "must be a time from 2000 to 2099"
_NO_SUCH_TIME = "must be a date and a time of day that exist"


def parse_duration(value: object) -> int:
    """Microseconds of a duration: seconds as a number, or text in falling units (`1w2d`, `1.5h`).

    Not negative, at most a hundred years; what is above zero stays above zero. Raises ValueError
    whose text is the rule.
    """
    if isinstance(value, str):
        us = _spelled(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(_DURATION_RULE)  # noqa: TRY004
    elif not 0 <= value <= LONGEST // SECOND:  # false for NaN
        msg = "must be a duration of 0 s to 100 years"
        raise ValueError(msg)
    else:
        us = value * SECOND if isinstance(value, int) else round(value * SECOND) or int(value > 0)
    if us > LONGEST:
        msg = "must be a duration of 0 s to 100 years"
        raise ValueError(msg)
    return us


def _spelled(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(_DURATION_RULE)
    nanos = 0
    for number, unit in zip(match.groups(), _UNITS.values(), strict=True):
        if number is not None:
            whole, _, part = number.partition(".")
            nanos += int(whole + part.ljust(_FRACTION_DIGITS, "0")) * unit
    return nanos // 10**_FRACTION_DIGITS or int(nanos > 0)


def parse_time(value: object, *, now_us: int, zone: tzinfo, base_us: int | None = None) -> int:
    """The instant a user means: RFC 3339, a local date or date-time, Unix seconds, or `+2h30m`.

    Local times are read in `zone`; one that is skipped there moves to the first instant after the
    gap, one that occurs twice means the first. Relative ones count from `base_us`, else `now_us`.
    From 2000 to 2099. Raises ValueError whose text is the rule.
    """
    base = now_us if base_us is None else base_us
    if isinstance(value, str):
        us = base + parse_duration(value[1:]) if value[:1] == "+" else _written(value, zone)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(_TIME_RULE)  # noqa: TRY004
    elif not abs(value) < 1e12:  # false for NaN; nothing below it overflows
        raise ValueError(_RANGE_RULE)
    else:
        us = value * SECOND if isinstance(value, int) else round(value * SECOND)
    if not EARLIEST <= us < LATEST:
        raise ValueError(_RANGE_RULE)
    return us


@lru_cache(1024)
def parse_utc(text: str) -> int:
    """The instant of an RFC 3339 time with offset, in any range; the inverse of format_utc."""
    match = _TIME.fullmatch(text)
    if match is None or match[8] is None:
        msg = "must be a time with offset such as 2026-11-21T14:30:00.000000Z"
        raise ValueError(msg)
    return _since_epoch(_wall(match), match[7]) - _offset(match[8])


def _written(text: str, zone: tzinfo) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(_TIME_RULE)
    wall = _wall(match)
    if match[8] is not None:
        return _since_epoch(wall, match[7]) - _offset(match[8])
    if wall.year not in _SAFE_YEARS:
        raise ValueError(_RANGE_RULE)
    return _from_local(wall, _since_epoch(wall, match[7]), zone)


def _wall(match: re.Match[str]) -> datetime:
    """What the clock shows; a leap second, :60, is the first instant of the next minute."""
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    leap = second == 60 and not int(match[7] or 0)
    try:
        wall = datetime(year, month, day, hour, minute, second - leap)  # noqa: DTZ001
        return wall + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        raise ValueError(_NO_SUCH_TIME) from None


def _since_epoch(wall: datetime, fraction: str | None) -> int:
    passed = wall - _EPOCH
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return (passed.days * 86_400 + passed.seconds) * SECOND + micros


def _offset(text: str) -> int:
    if text in "Zz":
        return 0
    hours, minutes = int(text[1:3]), int(text[4:])
    if hours > 23 or minutes > 59:
        raise ValueError(_NO_SUCH_TIME)
    return (hours * HOUR + minutes * MINUTE) * (-1 if text[0] == "-" else 1)


def _from_local(wall: datetime, wall_us: int, zone: tzinfo) -> int:
    """The first instant whose local clock shows at least this wall time.

    fold=0 reads a wall time with the offset before a change, fold=1 with the one after. Twice:
    the earlier offset is the larger, and first. Skipped: it is the smaller, and the change itself
    lies between the two readings.
    """
    early = _seconds(wall.replace(tzinfo=zone, fold=0).utcoffset())
    late = _seconds(wall.replace(tzinfo=zone, fold=1).utcoffset())
    if early >= late:
        return wall_us - early * SECOND
    before, after = wall_us // SECOND - late, -(-wall_us // SECOND) - early
    while after - before > 1:
        middle = (before + after) // 2
        if _seconds(moment(middle * SECOND, zone).utcoffset()) == early:
            before = middle
        else:
            after = middle
    return after * SECOND


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else offset // timedelta(seconds=1)


def zone(name: object) -> ZoneInfo:
    """The time zone of an IANA name such as Europe/Rome; ValueError where there is none."""
    rule = "must be a time zone such as Europe/Rome or UTC"
    if not isinstance(name, str) or not 0 < len(name) <= 255:
        raise ValueError(rule)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(rule) from None


def moment(us: int, zone: tzinfo = UTC) -> datetime:
    """An instant as an aware datetime. What C makes of one ends in 2038 where `long` has 32 bits."""
    return (_START + timedelta(microseconds=us)).astimezone(zone)


@lru_cache(4096)
def format_utc(us: int) -> str:
    """An instant for machines: 2026-11-21T14:30:00.123456Z, always six digits."""
    clock = clock_of(us)
    return f"{date_of(us)}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z"


def maybe_utc(us: int | None) -> str | None:
    """The same of one that there need not be."""
    return None if us is None else format_utc(us)


def format_local(us: int, zone: tzinfo | None = None) -> str:
    """An instant for people, to the second: 2026-11-21 15:30:00 CET."""
    return moment(us, zone or UTC).strftime("%Y-%m-%d %H:%M:%S %Z")


def format_span(us: int) -> str:
    """A duration for people, its two largest units, rounded down: 2 h 5 min; 350 ms; -3 d 1 h."""
    if us < 0:
        return f"-{format_span(-us)}"
    if us < SECOND:
        return f"{us // MS} ms" if us >= MS or us == 0 else "under 1 ms"
    parts, rest = [], us
    for unit, word in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")):
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count} {word}")
        elif parts:
            break
    return " ".join(parts[:2])
