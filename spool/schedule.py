"""When something recurs: `every` as a rule, and the instants it means in a time zone.

Wall clocks are not a line: some of their times are skipped, others occur twice. cronsim reads the
expression and counts through the wall clock; where the clock of a zone is set, these rules hold:

    the expression                  a time that is skipped         a time that occurs twice
    hour and minute are given       the first instant after it     the first time
    hour or minute begins with *    does not occur                 both times
    an interval                     counts real time: neither happens
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError
from msgspec import Struct

from spool.names import id_from
from spool.times import DAY, SECOND, format_span, moment, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import tzinfo

MAX_TEXT = 200
LONGEST = 366 * DAY
NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
RULE = "must be five fields of cron, a duration such as 90s, or one of " + ", ".join(NAMED)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - what a wall clock shows has no zone
_STEP = DAY  # us in which the clock of a zone is set at most once
_NEVER = 1 << 62
ON_TIME = 60 * SECOND  # what starts later than this was missed
_HORIZON = 40 * 366 * DAY  # us: 29 February on a given weekday occurs once in 28 years, or in 40


class Every(Struct, frozen=True):
    """A rule: `span` us, or (0) the five fields of `cron`. `text` is how it was written."""

    text: str
    span: int
    cron: str

    @property
    def wild(self) -> bool:
        """Whether hour or minute begin with *: then it goes by real time, as cron(8) does."""
        minute, hour = self.cron.split()[:2]
        return minute.startswith("*") or hour.startswith("*")


def parse_every(value: object) -> Every:
    """The rule a text means. Raises ValueError whose text is what it must be."""
    text = " ".join(value.split()) if isinstance(value, str) else value
    if not isinstance(text, str):
        return _interval(value)
    if not 0 < len(text) <= MAX_TEXT:
        raise ValueError(RULE)
    if text.lower() == "@reboot":
        keep = "keep `@reboot spool run COMMAND` (or `spool submit TASK`) in a crontab"
        msg = f"must be a time, not a boot: {keep}"
        raise ValueError(msg)
    cron = NAMED.get(text.lower(), text)
    if text.startswith("@") and cron == text:
        raise ValueError(RULE)
    if " " not in cron:
        return _interval(text)
    return _cron(text, cron)


def _interval(value: object) -> Every:
    try:
        span = parse_duration(value)
    except ValueError:
        raise ValueError(RULE) from None
    if not SECOND <= span <= LONGEST or span % SECOND:
        msg = f"must be whole seconds, from 1 s to {format_span(LONGEST)}"
        raise ValueError(msg)
    return Every(str(value), span, "")


def _cron(text: str, cron: str) -> Every:
    if len(cron.split()) != 5:
        msg = "must have five fields: minute, hour, day of month, month, day of week"
        raise ValueError(msg)
    try:
        next(CronSim(cron, _EPOCH))
    except CronSimError as problem:
        msg = f"must be valid for cron: {str(problem).lower()}"
        raise ValueError(msg) from None
    except StopIteration:
        msg = "must occur: no year has such a day"
        raise ValueError(msg) from None
    return Every(text, 0, cron)


def occurrences(rule: Every, zone: tzinfo, after: int) -> Iterator[int]:
    """The instants (us UTC) of a rule later than `after`, in order, each once; a rule may run dry."""
    if rule.span:
        at = (after // rule.span + 1) * rule.span
        while True:
            yield at
            at += rule.span
    last = after
    for at in _walls(rule, zone, after):
        if at > last:
            last = at
            yield at


def _walls(rule: Every, zone: tzinfo, after: int) -> Iterator[int]:
    """Stretches of one offset, one after the other: in each the wall clock is a line.

    It begins some days early, so as to know which times the clock has shown before.
    """
    clock = _Clock(rule.cron)
    begin, shown = after - 2 * _STEP, 0
    offset = _offset(zone, begin)
    while begin - after < _HORIZON:
        end, following = _stretch(zone, begin, offset)
        if end > after:
            low = max(begin, after + 1) + offset
            low = low if rule.wild else max(low, shown)
            while (wall := clock.first(low)) < end + offset:
                yield wall - offset
                low = wall + 1
            if not rule.wild and wall < end + following:
                yield end  # what is skipped occurs at the first instant after
        shown = max(shown, end + offset)
        begin, offset = end, following


def _stretch(zone: tzinfo, begin: int, offset: int) -> tuple[int, int]:
    """Where a stretch ends, and the offset after it; at some ends nothing changes."""
    end = begin + _STEP
    following = _offset(zone, end)
    if following == offset:
        return end, offset
    low, high = begin // SECOND, end // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, middle * SECOND) == offset:
            low = middle
        else:
            high = middle
    return high * SECOND, _offset(zone, high * SECOND)


class _Clock:
    """The wall times (us) an expression means, whatever the zone."""

    def __init__(self, cron: str) -> None:
        self._cron = cron
        self._known = (0, -1)  # there is none from the first, before the second

    def first(self, low: int) -> int:
        """The first one from `low` on; far beyond everything where there is none."""
        since, found = self._known
        if not since <= low <= found:
            start = _EPOCH + timedelta(microseconds=low - 1)
            wall = next(CronSim(self._cron, start), None)
            found = _NEVER if wall is None else (wall - _EPOCH) // timedelta(microseconds=1)
            self._known = (low, found)
        return found


def _offset(zone: tzinfo, us: int) -> int:
    found = moment(us, zone).utcoffset()
    return 0 if found is None else found // timedelta(microseconds=1)


def occurrence_id(name: str, at: int, secret: str = "") -> str:
    """The id of the task that a schedule makes for an instant: a UUIDv7 of it, always the same one.

    With the spool's `secret` it is one that no writer can foresee.
    """
    text = "\0".join((name, str(at), *filter(None, [secret])))
    return id_from(at, hashlib.sha256(text.encode()).digest())


def shift(seed: str, name: str, spread: int) -> int:
    """How much later than its instants the tasks of a schedule start: whole seconds below `spread` us."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8]
    return int.from_bytes(digest) % max(1, spread // SECOND) * SECOND


class Due(Struct, frozen=True):
    """What a look at a schedule finds: instants to make tasks of, the first one left out, up to when."""

    make: tuple[int, ...]
    missed: int | None
    until: int


def due(  # noqa: PLR0913 - what a schedule says of its past
    rule: Every,
    zone: tzinfo,
    since: int,
    now: int,
    *,
    catch_up: str,
    window: int,
    most: int,
    pauses: Iterable[tuple[int, int]] = (),
) -> Due:
    """What is due at `now` of what comes after `since`, and in none of the pauses (from, to).

    What is at most ON_TIME late is made. Of what is later, and within `window`, `catch_up` makes none;
    once: the newest, unless something is on time; all: the newest `most`. What is older is not counted.
    """
    begin = max(since, now - max(window, ON_TIME) - 1)
    middle = max(begin, now - ON_TIME - 1)
    fresh = _newest(rule, zone, _open(middle, now, pauses), ON_TIME // SECOND + 1)
    spans = _open(begin, middle, pauses)
    old = _newest(rule, zone, spans, {"none": 0, "once": 0 if fresh else 1, "all": most}[catch_up])
    firsts = (next(_within(rule, zone, *span), None) for span in spans)
    missed = next((at for at in firsts if at is not None), None)
    return Due((*old, *fresh), None if missed in old else missed, now)


def _open(begin: int, end: int, pauses: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What the pauses leave of a time: (after, up to) each."""
    found = []
    for since, until in sorted(pauses):
        found.append((begin, min(since - 1, end)))
        begin = max(begin, until - 1)
    return [(after, upto) for after, upto in (*found, (begin, end)) if after < upto]


def _newest(rule: Every, zone: tzinfo, spans: list[tuple[int, int]], count: int) -> list[int]:
    """The last `count` instants of these spans; it looks back from the end, ever further."""
    found: list[int] = []
    for after, end in reversed(spans):
        upto, step = end, 60 * SECOND
        while after < upto and len(found) < count and any(_within(rule, zone, after, upto)):
            start = max(after, upto - step)
            found[:0] = _within(rule, zone, start, upto)
            upto, step = start, 2 * step
    return found[-count:]


def _within(rule: Every, zone: tzinfo, after: int, upto: int) -> Iterator[int]:
    return takewhile(upto.__ge__, occurrences(rule, zone, after))
