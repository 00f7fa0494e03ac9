"""What recurs: each instant once and in order, in every zone and at every change of its clock, by two computations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import islice, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool import schedule
from spool.names import id_time, is_id
from spool.schedule import LONGEST, ON_TIME, due, occurrence_id, occurrences, parse_every, shift
from spool.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.schedule import Every

MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
FIRST, LAST = 2010, 2030
EARLY = 1500  # minutes: more than any clock was ever set back
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = 1_795_305_600_000_000  # 2026-11-22
RULES = {  # expression: minutes and hours it means, whether it goes by real time
    "30 2 * * *": ({30}, {2}, False),
    "0,15,45 0-3 * * *": ({0, 15, 45}, {0, 1, 2, 3}, False),
    "0 0 * * *": ({0}, {0}, False),
    "59 23 * * *": ({59}, {23}, False),
    "*/15 * * * *": ({0, 15, 30, 45}, set(range(24)), True),
    "*/30 0-2 * * *": ({0, 30}, {0, 1, 2}, True),
    "5 * * * *": ({5}, set(range(24)), True),
}


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def offset(zone: ZoneInfo, minute: int) -> int:
    """The offset of a zone at a minute since 1970, in minutes: all are whole ones in these years."""
    found = moment(minute * MINUTE, zone).utcoffset()
    assert found is not None
    assert not found.seconds % 60
    return found.days * 1440 + found.seconds // 60


@cache
def changes() -> list[tuple[str, int]]:
    """Every change of every clock in 20 years, one of each kind: (before, after, time of day)."""
    found: dict[tuple[int, int, int], tuple[str, int]] = {}
    begin, end = (int(us(datetime(y, 1, 1, tzinfo=UTC)) // MINUTE) for y in (FIRST, LAST))
    seen: set[bytes] = set()
    for name in sorted(available_timezones() - {"localtime"}):
        zone, last = ZoneInfo(name), 0
        data = (resources.files("tzdata") / "zoneinfo" / name).read_bytes()
        known = offset(zone, begin)
        for start in () if data in seen else range(begin, end, 720):  # twelve hours
            if offset(zone, start + 720) == known:
                continue
            minute = next(m for m in range(start, start + 721) if offset(zone, m) != known)
            new = offset(zone, minute)
            assert minute - last > 1440, f"{name} changes twice within a day: the step is too long"
            assert offset(zone, start + 720) == new, name
            found.setdefault((known, new, (minute + known) % 1440), (name, minute))
            known, last = new, minute
        seen.add(data)
    return list(found.values())


def by_hand(walls: list[int], begin: int, text: str) -> list[int]:
    """What a rule means from minute `begin` on, minute by minute as the clock shows it (`walls`).

    `walls` begins EARLY minutes before, for what the clock has shown by then.
    """
    minutes, hours, real = RULES[text]

    def meant(wall: int) -> bool:
        return wall % 60 in minutes and wall // 60 % 24 in hours

    found: list[int] = []
    shown = walls[0]  # the latest time that the clock has shown
    for minute, wall in enumerate(walls, begin - EARLY):
        new = range(shown + 1, wall + 1)  # empty while it shows again what it has shown
        if minute >= begin and (meant(wall) if real else any(map(meant, new))):
            found.append(minute * MINUTE)
        shown = max(shown, wall)
    return found


def test_every_change_of_every_clock_in_twenty_years_is_as_the_table_says() -> None:
    assert len(changes()) > 100
    for name, minute in changes():
        zone = ZoneInfo(name)
        begin, end = minute - 240, minute + 240
        walls = [m + offset(zone, m) for m in range(begin - EARLY, end + 1)]
        for text in RULES:
            found = occurrences(parse_every(text), zone, begin * MINUTE - 1)
            got = list(takewhile(lambda at, end=end: at <= end * MINUTE, found))
            where = f"{text} in {name} at {EPOCH + timedelta(minutes=minute)}"
            assert got == by_hand(walls, begin, text), where


@given(st.sampled_from(list(RULES)), st.data())
@settings(deadline=None, max_examples=60)
def test_wherever_one_begins_the_instants_are_the_same(text: str, data: st.DataObject) -> None:
    name, minute = changes()[data.draw(st.integers(0, len(changes()) - 1))]
    zone, rule = ZoneInfo(name), parse_every(text)
    after = minute * MINUTE + data.draw(st.integers(-4 * HOUR, 4 * HOUR))
    all_of = list(islice(occurrences(rule, zone, minute * MINUTE - DAY), 300))
    assert list(islice(occurrences(rule, zone, after), 3)) == [at for at in all_of if at > after][:3]


field = st.sampled_from(
    ["*", "*/7", "1-5", "0,3", "2", "L", "5L", "2#3", "MON", "x", "", "7", "61", "1-", "²"]
)


@given(
    st.one_of(st.lists(field, min_size=4, max_size=7).map(" ".join), st.text(max_size=20), st.integers())
)
def test_whatever_is_written_is_a_rule_that_occurs_or_is_refused(value: object) -> None:
    try:
        rule = parse_every(value)
    except ValueError as problem:
        assert str(problem).startswith("must ")
        return
    first, second = islice(occurrences(rule, ZoneInfo("Europe/Rome"), NOW), 2)
    assert NOW < first < second


@pytest.mark.parametrize(
    "value",
    [
        "* * * * * *",
        "0 0 30 2 *",
        "5-1 * * * *",
        "@reboot",
        "@often",
        "0s",
        "1ms",
        "367d",
        0,
        True,
        None,
        [],
        "90",
        "x" * 9999,
    ],
)
def test_what_is_no_rule_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must "):
        parse_every(value)


@given(st.integers(1, LONGEST // 1_000_000), st.integers(0, NOW))
def test_an_interval_counts_from_1970_whatever_the_zone_and_the_start(seconds: int, after: int) -> None:
    rule = parse_every(seconds)
    first, second = islice(occurrences(rule, UTC, after), 2)
    assert first % rule.span == 0
    assert second - first == rule.span
    assert after < first <= after + rule.span


names = st.text("abcXYZ019._-", min_size=1, max_size=64)
instants = st.integers(946_684_800, 4_102_444_799).map(lambda s: s * 1_000_000)


@given(names, instants, names, instants)
def test_an_occurrence_has_one_id_and_no_other_has_it(a: str, at: int, b: str, bt: int) -> None:
    found = occurrence_id(a, at)
    assert is_id(found)
    assert id_time(found) == at
    assert (found == occurrence_id(b, bt)) == ((a, at) == (b, bt))


@given(names, st.integers(0, DAY))
def test_a_spread_is_always_the_same_and_below_its_bound(name: str, spread: int) -> None:
    assert 0 <= shift("s", name, spread) <= max(0, spread - 1)
    assert shift("s", name, spread) == shift("s", name, spread)


def test_a_spread_uses_all_of_its_room() -> None:
    found = {shift("s", f"n{n}", 60_000_000) for n in range(1000)}
    assert len(found) == 60


spans = st.lists(st.tuples(st.integers(0, 3 * DAY), st.integers(0, DAY)), max_size=3)


@settings(deadline=None)
@given(
    st.one_of(st.integers(30, 4000), st.sampled_from(list(RULES))), st.integers(0, 3 * DAY),
    st.sampled_from(["none", "once", "all"]), st.integers(0, 2 * DAY), st.integers(1, 50), spans,
)  # fmt: skip
def test_what_was_missed_is_made_as_the_policy_says(
    every: object, gap: int, catch_up: str, window: int, most: int, ago: list[tuple[int, int]]
) -> None:
    rule = parse_every(every)
    pauses = [(NOW - begin, NOW - begin + length) for begin, length in ago]
    found = due(rule, UTC, NOW - gap, NOW, catch_up=catch_up, window=window, most=most, pauses=pauses)
    times = list(takewhile(lambda at: at <= NOW, occurrences(rule, UTC, NOW - gap)))
    times = [at for at in times if not any(begin <= at < end for begin, end in pauses)]
    fresh = [at for at in times if at >= NOW - ON_TIME]
    late = [at for at in times if NOW - window <= at < NOW - ON_TIME]
    wanted = {"none": [], "once": [] if fresh else late[-1:], "all": late[-most:]}[catch_up]
    assert list(found.make) == [*wanted, *fresh]
    assert found.until == NOW
    assert found.missed == next((at for at in late if at not in wanted), None)


@pytest.mark.parametrize(
    ("catch_up", "most", "drawn"), [("none", 1, 100), ("once", 1, 100), ("all", 100, 500)]
)
def test_no_more_is_counted_out_than_is_made(
    monkeypatch: pytest.MonkeyPatch, catch_up: str, most: int, drawn: int
) -> None:
    seen: list[int] = []

    def counted(rule: Every, zone: ZoneInfo, after: int) -> Iterator[int]:
        for at in occurrences(rule, zone, after):
            seen.append(at)
            yield at

    monkeypatch.setattr(schedule, "occurrences", counted)
    rule = parse_every("* * * * *")
    due(rule, UTC, NOW - 30 * DAY, NOW - 90_000_000, catch_up=catch_up, window=30 * DAY, most=most)
    assert len(seen) < drawn
