"""Properties of the names that carry state."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from spool import names
from spool.names import (
    EARLIEST,
    EVENTS,
    LATEST,
    MAX_US,
    NAME_MAX,
    PRIORITIES,
    BadName,
    Entry,
    date_of,
    day_start,
    entry_name,
    event_name,
    id_date,
    id_from,
    id_time,
    is_id,
    new_id,
    parse_entry,
    parse_event,
)

US = st.integers(0, MAX_US - 1)
WHOLE = US.map(lambda us: us // 1_000_000 * 1_000_000)
TASKS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(lambda t: "\n" not in t)
IDS = st.builds(id_from, US, st.binary(min_size=10, max_size=10))


# Fields of newer versions, in the order of their texts.
EXTRA = [(), (("z", "9"),), (("e", "new"), ("y", "")), (("e2", "1"), ("e", "2"), ("nn", ""), ("zz", "7"))]


@st.composite
def entries(draw):
    prio = draw(st.sampled_from(PRIORITIES))
    fails, lifted = draw(st.integers(0, 9999)), draw(st.integers(0, 2))
    base = draw(st.sampled_from(PRIORITIES))
    return Entry(
        time=draw(US),
        id=draw(IDS),
        task=draw(TASKS),
        prio=prio,
        base=base,
        deadline=draw(st.none() | WHOLE),
        lead=draw(st.none() | st.integers(0, 10**13)),
        fails=fails,
        lost=draw(st.integers(0, 99)),
        interrupted=draw(st.integers(0, 9999)),
        among=draw(st.integers(0, 9999)),
        front=draw(st.booleans()),
        why=draw(st.sampled_from(["", "asked", "poison", "no-handler"])),
        miss=draw(st.sampled_from(["run", "drop", "fail"])),
        timeout=draw(st.none() | WHOLE),
        lifted=lifted,
        extra=draw(st.sampled_from(EXTRA)),
    )


@given(entries())
def test_an_entry_is_what_its_name_and_directory_say(entry):
    dated = entry_name(entry, dated=True)
    assert parse_entry(dated) == entry
    plain = entry_name(entry, dated=False)
    assert parse_entry(plain, date=date_of(entry.time), prio=entry.prio) == entry


@given(entries(), st.booleans())
def test_a_name_is_short_enough_and_its_fields_are_in_order(entry, dated):
    name = entry_name(entry, dated=dated)
    assert len(name.encode()) <= NAME_MAX
    fields = name.removesuffix(".json").split(",")[3:]
    assert fields == sorted(fields)


@given(entries(), st.text("ab.", max_size=200), st.booleans())
def test_what_is_not_known_goes_before_a_name_is_too_long(entry, text, dated):
    ours = (("g", "0123456789ab"), ("o", "u1000"))
    long = replace(entry, extra=(*ours, ("zz", text)))
    name = entry_name(long, dated=dated)
    assert len(name) <= NAME_MAX
    found = parse_entry(
        name, date=None if dated else date_of(entry.time), prio=None if dated else entry.prio
    )
    assert found in (long, replace(entry, extra=ours))


@given(st.lists(entries(), min_size=2, max_size=8))
def test_ls_prints_a_day_in_order(found):
    day = [e for e in found if date_of(e.time) == date_of(found[0].time)]
    by_name = sorted(day, key=lambda e: entry_name(e, dated=False))
    assert [(e.time, e.id) for e in by_name] == sorted((e.time, e.id) for e in day)


@given(st.text(max_size=200) | entries().map(lambda e: entry_name(e, dated=True)), st.data())
@example("143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,email.welcome,d=20261121T180000Z,n=1.json", None)
def test_any_text_is_an_entry_or_a_bad_name_and_nothing_else(text, data):
    if data is not None and text:
        at = data.draw(st.integers(0, len(text) - 1))
        text = (
            text[:at] + data.draw(st.sampled_from(["", ",", "=", "x", "\n", "9", "é"])) + text[at + 1 :]
        )
    for date in (None, "2026-11-21", "2026-13-01"):
        try:
            entry = parse_entry(text, date=date, prio="low")
        except BadName:
            continue
        assert is_id(entry.id)


@given(st.from_regex(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", fullmatch=True))
@example("ffffffffffff7fff8fffffffffffffff")
@example("e677d21fdc007fff8fffffffffffffff")  # the first instant of the year 10000
def test_an_id_has_a_date_that_can_be_told(text):
    if is_id(text):
        assert id_date(text) == date_of(id_time(text))
    else:
        assert id_time(text) > MAX_US


def test_the_worked_example_of_the_format():
    name = "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,email.welcome,d=20261121T180000Z,n=1.json"
    entry = parse_entry(name, date="2026-11-21", prio="low")
    assert (entry.task, entry.fails, entry.prio) == ("email.welcome", 1, "low")
    assert entry.time == day_start("2026-11-21") + ((14 * 60 + 30) * 60) * 10**6 + 123456
    assert entry.deadline == day_start("2026-11-21") + 18 * 3600 * 10**6


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a.tmp",
        "243000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a.json",
        "143000.123456,0193a5b27c4d4e8f9a0b1c2d3e4f5a6b,a.json",
        "143000.123456,ffffffffffff7e8f9a0b1c2d3e4f5a6b,a.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,-a.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,n=1,d=20261121T180000Z.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,n=-1.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,n=1,n=2.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,zz=1,zz=2.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,2z=1.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,d=tomorrow.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,m=maybe.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a,l=1.1234567.json",
        "143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b," + "a" * 65 + ".json",
    ],
)
def test_what_breaks_a_rule_is_no_entry(name):
    with pytest.raises(BadName):
        parse_entry(name, date="2026-11-21", prio="low")


def test_an_entry_without_its_date_is_refused_where_no_directory_tells_it():
    with pytest.raises(BadName, match="s=YYYYMMDD"):
        parse_entry("143000.123456,0193a5b27c4d7e8f9a0b1c2d3e4f5a6b,a.json")


@given(US, st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid7_and_carries_its_time(us, chance):
    found = id_from(us, chance)
    assert is_id(found)
    assert id_time(found) == min(max(us, EARLIEST), LATEST - 1) // 1000 * 1000


def test_ids_do_not_repeat_and_grow():
    found = [new_id() for _ in range(10_000)]
    assert found == sorted(set(found))
    assert all(map(is_id, found))


def test_ids_grow_while_a_clock_stands_or_steps_back_a_little(monkeypatch):
    now = time.time_ns()
    clock = iter([now, now, now - 999_000_000, now + 1_000, now - 5_000_000_000])
    monkeypatch.setattr(names.time, "time_ns", lambda: next(clock))
    *found, last = [new_id() for _ in range(5)]
    assert found == sorted(set(found))
    assert id_time(last) == (now - 5_000_000_000) // 1_000_000 * 1000


def test_with_a_clock_past_all_dates_ids_are_of_the_last_one(monkeypatch):
    monkeypatch.setattr(names, "_last", 0)
    monkeypatch.setattr(names.time, "time_ns", lambda: LATEST * 1000 - 1)
    assert {id_time(new_id()) for _ in range(5000)} == {LATEST - 1000}


@given(US, IDS, TASKS, st.sampled_from(EVENTS))
def test_an_event_is_what_its_name_says(us, task_id, task, event):
    name = event_name(us, task_id, task, event)
    assert len(name) <= NAME_MAX
    found = parse_event(name)
    assert found is not None
    assert found[1:] == (task_id, task, event)


@given(st.text(max_size=9), st.integers(0, 3))
def test_a_name_with_any_other_part_is_none_of_an_event(text, part):
    parts = ["20261121T143000.123456Z", "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b", "mail", "done"]
    parts[part] += "\x1b" + text
    assert parse_event(",".join(parts) + ".json") is None
