"""The action format under arbitrary input: nothing but Invalid escapes, nothing is lost or bent."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spool import fields, times
from spool.actions import Incomplete, decode, decode_task, encode_task, interpret
from spool.backoff import Backoff, parse_backoff, plain_backoff
from spool.errors import Invalid
from spool.knobs import RECURRING_ROWS
from spool.names import EARLIEST, LATEST, id_from
from spool.owncopy import Task

NOW = times.parse_utc("2026-11-21T12:00:00Z")
ROME = times.zone("Europe/Rome")
ID = id_from(NOW, bytes(10))
OTHER = f"{ID[:-1]}1"
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
jsons = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
spans = st.integers(0, 30 * times.DAY)
instants = st.integers(NOW - times.YEAR, NOW + times.YEAR)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
ids = st.builds(id_from, instants, st.binary(min_size=10, max_size=10))
maybe = st.none().__or__


def ask(doc: dict[str, Any]) -> Any:
    return interpret(doc, now=NOW, dropped=NOW, zone=ROME, uid=1)


# --- durations and instants


@given(spans)
def test_a_duration_written_as_seconds_reads_back_exactly(us: int) -> None:
    backoff = Backoff(base=us, factor=2.0, max=us)
    assert parse_backoff(plain_backoff(backoff)) == backoff


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6))
def test_a_duration_is_the_sum_of_its_units(counts: list[int]) -> None:
    units = (times.WEEK, times.DAY, times.HOUR, times.MINUTE, times.SECOND, times.MS)
    spelled = "".join(
        f"{count}{unit}" for count, unit in zip(counts, ("w", "d", "h", "m", "s", "ms"), strict=True)
    )
    total = sum(count * unit for count, unit in zip(counts, units, strict=True))
    assert times.parse_duration(spelled) == total


@given(st.integers(EARLIEST, LATEST - 1))
def test_an_instant_written_reads_back_exactly(us: int) -> None:
    written = times.format_utc(us)
    assert times.parse_utc(written) == us
    assert times.parse_time(written, now_us=us, zone=ROME) == us
    assert len(written) == 27


@given(instants, st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_an_offset_changes_the_writing_not_the_instant(us: int, minutes: int) -> None:
    hours, rest = divmod(abs(minutes), 60)
    local = times.format_utc(us + minutes * times.MINUTE).removesuffix("Z")
    written = f"{local}{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}"
    assert times.parse_time(written, now_us=NOW, zone=ROME) == us


@given(jsons | st.floats() | st.integers() | st.text())
@example("+" + "9" * 4400 + "s")
def test_whatever_is_written_as_a_time_only_valueerror_comes_back(value: Any) -> None:
    for zone in (ROME, times.zone("Pacific/Kiritimati"), times.zone("Pacific/Pago_Pago")):
        try:
            us = times.parse_time(value, now_us=NOW, zone=zone)
        except ValueError:
            continue
        assert EARLIEST <= us < LATEST
    with suppress(ValueError):
        assert 0 <= times.parse_duration(value) <= times.LONGEST


@given(
    st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32), st.integers(0, 25),
    st.integers(0, 61), st.sampled_from(["", "Z", "+14:00", "-12:00", "+24:00"]),
)  # fmt: skip
def test_whatever_the_numbers_of_a_date_only_valueerror_comes_back(
    year: int, month: int, day: int, hour: int, minute: int, offset: str
) -> None:
    written = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{minute:02d}{offset}"
    for zone in (ROME, times.zone("Pacific/Kiritimati"), times.zone("Pacific/Pago_Pago")):
        try:
            times.parse_time(written, now_us=NOW, zone=zone)
        except ValueError:
            continue


def changes(zone_name: str, first: int, last: int) -> list[int]:
    """The hours (since 1970) in which a zone's offset changes."""
    zone = times.zone(zone_name)
    start = int((datetime(first, 1, 1, tzinfo=UTC) - EPOCH) / timedelta(hours=1))
    found, before = [], None
    for hour in range(start, start + (last - first + 1) * 8766):
        offset = (EPOCH + timedelta(hours=hour)).astimezone(zone).utcoffset()
        if before is not None and offset != before:
            found.append(hour)
        before = offset
    return found


CHANGES = {
    name: changes(name, first, last)
    for name, first, last in (
        ("Europe/Rome", 2026, 2027),
        ("America/New_York", 2026, 2027),
        ("America/St_Johns", 2026, 2026),
        ("America/Havana", 2026, 2027),
        ("Australia/Lord_Howe", 2026, 2027),
        ("Africa/Casablanca", 2026, 2026),
        ("Africa/Cairo", 2026, 2026),
        ("Asia/Beirut", 2026, 2026),
        ("Pacific/Apia", 2011, 2011),
    )
}


def brute_force(wall: datetime, zone_name: str) -> int:
    """The first UTC minute at which a clock on the wall there shows at least this time."""
    zone = times.zone(zone_name)
    minute = wall.replace(tzinfo=UTC) - timedelta(hours=30)
    while minute.astimezone(zone).replace(tzinfo=None) < wall:
        minute += timedelta(minutes=1)
    return (minute - EPOCH) // timedelta(microseconds=1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_local_time_is_the_first_instant_at_which_the_clock_there_shows_it(
    data: st.DataObject,
) -> None:
    zone_name = data.draw(st.sampled_from(sorted(CHANGES)))
    hour = data.draw(st.sampled_from(CHANGES[zone_name]))
    shift = data.draw(st.integers(-30 * 60, 30 * 60) | st.integers(-120, 120))
    change = EPOCH + timedelta(hours=hour)
    local = change.astimezone(times.zone(zone_name)).replace(tzinfo=None)
    wall = local + timedelta(minutes=shift)
    now = (change - EPOCH) // timedelta(microseconds=1)
    written = wall.strftime("%Y-%m-%d %H:%M")
    got = times.parse_time(written, now_us=now, zone=times.zone(zone_name))
    assert got == brute_force(wall, zone_name)
    assert got == times.parse_time(written + ":00.0", now_us=now, zone=times.zone(zone_name))


@pytest.mark.parametrize("zone_name", sorted(CHANGES))
def test_a_date_is_the_first_instant_of_its_day(zone_name: str) -> None:
    for hour in CHANGES[zone_name]:
        for day in (-1, 0, 1):
            local = (EPOCH + timedelta(hours=hour)).astimezone(times.zone(zone_name))
            wall = datetime(local.year, local.month, local.day) + timedelta(days=day)
            got = times.parse_time(
                wall.strftime("%Y-%m-%d"), now_us=hour * times.HOUR, zone=times.zone(zone_name)
            )
            assert got == brute_force(wall, zone_name)


# --- bytes


def read(data: bytes) -> None:
    try:
        ask(decode(data))
    except Invalid as error:
        assert str(error)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0019tfne.-+ ').map(str.encode))
def test_whatever_the_bytes_only_invalid_comes_back(data: bytes) -> None:
    read(data)


SEED = json.dumps(
    {
        "task": "thumb.make", "id": ID, "args": {"a": [1, -2.5e-3, True, None, '\u00e9\\"\U0001f600']},
        "at": "+90s", "deadline": "2026-12-01 10:00", "tz": "Europe/Rome", "priority": "high",
        "backoff": {"base": "1s", "factor": 2, "max": 60}, "meta": {"k": "v"}, "trace": TRACE,
    }
).encode()  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.binary(max_size=3)), max_size=4))
def test_a_mutated_document_is_read_or_refused(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(SEED)
    for place, new in edits:
        data[place : place + len(new) // 2 + 1] = new
    read(bytes(data))


@given(st.dictionaries(texts, jsons, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_every_beginning_of_a_document_is_incomplete(
    doc: dict[str, Any],
    ascii_only: bool,
    indent: int | None,
) -> None:
    data = json.dumps(doc, ensure_ascii=ascii_only, indent=indent).encode()
    assert decode(data) == doc
    for end in range(len(data)):
        with pytest.raises(Incomplete):
            decode(data[:end])


def test_every_beginning_of_the_sample_is_incomplete() -> None:
    for end in range(len(SEED)):
        with pytest.raises(Incomplete):
            decode(SEED[:end])


@given(st.dictionaries(texts, jsons, max_size=4))
def test_whatever_the_object_only_invalid_comes_back(doc: dict[str, Any]) -> None:
    for known in ({}, {"task": "spool.run", "args": doc}, {"task": "a"}, {"action": "fail"}):
        try:
            ask({**doc, **known})
        except Invalid as error:
            assert str(error)


# --- own copies

tasks = st.builds(
    Task,
    id=ids, task=names, args=jsons, at=instants, deadline=maybe(instants), lead=maybe(spans),
    priority=maybe(st.sampled_from(["high", "medium", "low"])), front=st.booleans(),
    retries=maybe(st.integers(0, 1000)), timeout=maybe(spans),
    backoff=maybe(st.builds(Backoff, base=spans, factor=st.floats(1, 100), max=spans)),
    version=maybe(st.integers(0, 2**31) | names), notify=maybe(names),
    on_miss=st.sampled_from(["run", "drop", "fail"]), trace=maybe(st.just(TRACE)),
    meta=st.dictionaries(texts, jsons, max_size=3),
    extra=st.dictionaries(texts.map("x-".__add__), jsons, max_size=3),
    submitted_at=instants, uid=maybe(st.integers(0, 2**32)), digest=st.text("0123456789abcdef"),
)  # fmt: skip


@given(tasks)
def test_an_own_copy_reads_back_as_the_same_task(task: Task) -> None:
    data = encode_task(task)
    assert decode_task(data) == task
    assert encode_task(decode_task(data)) == data


@given(tasks, st.integers(0, 10_000), st.binary(max_size=3))
def test_a_damaged_own_copy_is_read_or_refused(task: Task, place: int, new: bytes) -> None:
    data = bytearray(encode_task(task))
    place %= len(data)
    data[place : place + len(new)] = new
    try:
        decode_task(bytes(data))
    except Invalid as error:
        assert str(error)


# --- the schema

SCHEMA = fields.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# Good and bad values of each kind on which the schema can agree (see spool.schema for the rest).
GOOD: dict[str, list[Any]] = {
    "table": [{"every": "@daily", "task": "a"}],
    "files": [["a"], ["photo.jpg", "b"]],
    "after": [[OTHER], [OTHER, OTHER]],  # a circle is no matter of the schema
    "any": [None, 1, {"a": []}],
    "backoff": [1, "10s", {"base": 0}, {"base": "1m", "factor": 1.5, "max": "1h"}],
    "choice": [],
    "count": [1, 7, 1000],
    "ahead": ["+1h", "2036-12-01T10:00:00Z"],
    "duration": [1, 0.5, "1h30m"],
    "error": ["boom", {"type": "E"}, {"type": "E", "message": "m", "trace": "t"}],
    "flag": [True, False],
    "id": [ID],
    "ids": [[ID], [ID, ID]],
    "errors": [["0123456789abcdef"], ["0123456789abcdef", "f" * 16]],
    "match": [
        {"task": "mail.*"},
        {"after": ID, "key": "customer 17"},
        {"state": "failed", "since": NOW // times.SECOND, "until": "+1h", "error": "0" * 16},
    ],
    "meta": [{}, {"a": {"b": None}}],
    "name": ["a", "a.b-c_9"],
    "scope": ["a", "a.*", "*", "@a", "@*"],
    "percent": [0, 99.5, 100],
    "text": ["", "because"],
    "time": [NOW // times.SECOND, "+1h", "2026-12-01", "2026-12-01 10:00", "2026-12-01T10:00:00Z"],
    "trace": [TRACE],
    "version": [0, 2**31, "1.2"],
    "zone": ["UTC", "Europe/Rome"],
    "key": ["customer 17", "ü" * 200],
}
BAD: dict[str, list[Any]] = {
    "any": [],
    "backoff": [-1, "x", {}, {"base": 1, "factor": 0}, {"base": 1, "more": 1}, None],
    "choice": ["highest", 1, None],
    "count": [-1, "1", 1.5, True, None, 10**10],
    "ahead": ["tomorrow", "+", "+5", "2026-1-1", True, None, []],
    "duration": [-1, "90", "", True, None, [], 10**12],
    "error": [{}, 1, {"code": 1}, {"message": None}, "\0", None],
    "flag": [0, "true", None],
    "id": ["", ID.upper(), "../x", ID + "0", 5],
    "ids": [[], ID, [1], ["x"], None],
    "key": ["", "k" * 201, 1, None],
    "files": [[], "a", ["a", "a"], ["a b"], ["a/b"], [1], None],
    "after": [[], ID, [1], ["a b"], [None], None],
    "table": [[], "x", 1, None],
    "errors": [[], ["x"], "0123456789abcdef"],
    "match": [{}, [], {"id": "x"}, {"state": "new"}, {"error": "x"}, {"after": "x"}, {"key": 1}],
    "meta": [[], "x", None],
    "name": ["", "-a", "a/b", "a" * 65, "a b", 1, None],
    "scope": ["", "a?", "a/b", "@", "@@a", "a@b", 1, None],
    "percent": [-1, 101, "5", True, None],
    "text": ["\0", 1, None, "x" * 1001],
    "time": ["tomorrow", "+", "+5", "2026-1-1", "2026-12-01T10", True, None, []],
    "trace": ["x", TRACE.upper(), TRACE + "0", None],
    "version": [-1, 2**31 + 1, "a b", 1.5, True, None],
    "zone": ["", "z" * 256, 1, None],
}


@st.composite
def documents(draw: st.DrawFn, values: st.SearchStrategy[Any] | None = None) -> dict[str, Any]:
    """An action with some of its fields, perhaps a wrong one; values from the lists, or given."""
    action = draw(st.sampled_from(fields.ACTIONS))
    rows = list(fields.TAKES[action].values())
    chosen = draw(st.lists(st.sampled_from(rows), max_size=4, unique_by=lambda row: row.name))
    chosen += [row for row in rows if row.required and draw(st.integers(0, 9))]
    doc: dict[str, Any] = {"action": action} if action != "submit" or draw(st.booleans()) else {}
    for row in chosen:
        good = list(row.choices) or GOOD.get(row.kind, [])
        bad = BAD[row.kind]
        pool = bad if bad and (not good or not draw(st.integers(0, 7))) else good
        doc[row.name] = draw(st.sampled_from(pool) if values is None else values | st.sampled_from(pool))
    if not draw(st.integers(0, 9)):
        doc[draw(st.sampled_from(["x-a", "prio", "tasks", "every", "ids", "until"]))] = True
    if action == "submit" and not draw(st.integers(0, 3)):
        doc.pop("action", None)
        doc = {"tasks": [doc, {"task": "b"}]}
    return doc


def accepted(doc: dict[str, Any]) -> bool:
    try:
        ask(doc)
    except Invalid:
        return False
    return True


@settings(max_examples=500)
@given(documents())
def test_the_schema_and_the_dispatcher_agree(doc: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(doc) == accepted(doc), list(VALIDATOR.iter_errors(doc))


@settings(max_examples=300)
@given(documents(jsons))
def test_what_the_dispatcher_takes_the_schema_allows(doc: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(doc) or not accepted(doc)


@pytest.mark.parametrize("args", [{"a": {"$result": OTHER}}, [1, [{"$result": OTHER}]], {"a": [{}]}, {}])
def test_a_task_that_names_a_result_waits_for_it_in_the_schema_too(args: Any) -> None:
    doc = {"task": "a", "args": args, "on_failure": "run"}
    for one in (doc, {"tasks": [doc]}):
        assert VALIDATOR.is_valid(one) == accepted(one) == ("$result" in str(args))


WEEKLY = {"task": "a", "every": "@weekly"}


@pytest.mark.parametrize(
    "name", [*fields.TAKES["submit"], "overlap", "timezone", "then", "x-a", "nosuch"]
)
def test_the_schema_and_the_dispatcher_agree_on_what_recurs(name: str) -> None:
    row = RECURRING_ROWS.get(name) or fields.TAKES["submit"].get(name)
    kinds = [] if row is None else [*row.choices, *GOOD.get(row.kind, []), *BAD.get(row.kind, [])]
    for value in (*kinds, None, 1, "UTC", {}):
        if (name, value) != ("task", "a"):
            doc = {**WEEKLY, name: value}
            assert VALIDATOR.is_valid(doc) == accepted(doc), doc
        table = {"action": "schedule", "name": "n", "table": {**WEEKLY, name: value}}
        assert VALIDATOR.is_valid(table) == accepted(table), table


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_kind_of_field_is_tested_against_the_schema() -> None:
    assert {row.kind for row in fields.FIELDS} == set(BAD)
