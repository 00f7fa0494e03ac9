"""Action files: every liberty is refused by field, value and rule; what is accepted is typed."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from msgspec.structs import replace

from spool import actions, occurrences, settings, times
from spool.actions import Incomplete, Schedule, decode, interpret
from spool.backoff import Backoff
from spool.errors import Invalid
from spool.fields import NOT_CARRIED, TAKES
from spool.knobs import RECURRING_ROWS
from spool.names import id_from

NOW = times.parse_utc("2026-11-21T12:00:00Z")
DROPPED = NOW - times.MINUTE
ROME = times.zone("Europe/Rome")
ID = id_from(NOW, bytes(10))
FP = "0123456789abcdef"
OTHER = id_from(NOW, bytes(9) + b"\1")
ACK = {"action": "ack", "id": ID, "attempt": 1}
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
MEBI = 1 << 20


def ask(doc: dict[str, Any]) -> Any:
    return interpret(doc, now=NOW, dropped=DROPPED, zone=ROME, uid=1000)


def one(**fields: Any) -> actions.Task:
    return ask({"task": "thumb.make", **fields}).tasks[0]  # type: ignore[no-any-return]


def refused(doc: dict[str, Any]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        ask(doc)
    assert str(caught.value)
    return caught.value


# --- bytes


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"task":"a"}'.encode("utf-16"), "UTF-16"),
        ('{"task":"a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"task":"a"}'.encode("utf-16-be"), "UTF-16"),
        ('{"task":"\xe9"}'.encode("latin-1"), "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"a":"\xc0\xaf"}', "UTF-8"),
        (b'{"task":"a"}{"task":"b"}', "tasks"),
        (b'{"task":"a"}\n{"task":"b"}\n', "tasks"),
        (b'[{"task":"a"}]', "tasks"),
        (b"null", "one JSON object"),
        (b"12", "one JSON object"),
        (b'"x"', "one JSON object"),
        (b'{"a":1,"a":2}', "once"),
        (b'{"a":{"b":[{"c":1,"\\u0063":2}]}}', "once"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "NaN"),
        (b'{"a":1e400}', "double"),
        (b'{"a":' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a":18446744073709551616}', "64 bits"),
        (b'{"a":[-9223372036854775809]}', "64 bits"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":{"\\udc00":1}}', "surrogate"),
        (b"[" * 1000, "32 levels"),
        (b'{"a":' * 100_000, "32 levels"),
        (b'{"a":1,}', "JSON"),
        (b"{'a':1}", "JSON"),
        (b'{"a":1} // x', "JSON"),
        (b'{/* */"a":1}', "JSON"),
        (b'{"a":"\n"}', "JSON"),
        (b'{"a":01}', "JSON"),
        (b"x" * MEBI, "one JSON object"),
        (b" " * (MEBI + 1), "bytes"),
    ],
)
def test_every_liberty_of_json_parsers_is_refused_with_a_hint(data: bytes, hint: str) -> None:
    with pytest.raises(Invalid, match=hint) as caught:
        decode(data)
    assert not isinstance(caught.value, Incomplete)


@pytest.mark.parametrize(
    "data",
    [b"", b" \n", b"{", b'{"task', b'{"task":"a"', b'{"task":"\xc3', b'{"a":tru', b'{"a":-',
     b'{"a":1.', b'{"a":1e', b'{"a":1e+', b'{"a":"\\', b'{"a":"\\u00e', b'{"a":[1,', b'{"a":1}\0\0',
     b"\0\0\0\0"],
)  # fmt: skip
def test_a_document_that_may_be_half_written_is_told_apart(data: bytes) -> None:
    with pytest.raises(Incomplete):
        decode(data)


def test_brackets_inside_strings_are_no_depth() -> None:
    assert decode(json.dumps({"a": "[" * 100 + '\\"' * 20}).encode())
    assert decode(b'{"a":' * 31 + b"[]" + b"}" * 31)


def test_the_extremes_that_can_be_written_again_are_accepted() -> None:
    doc = {"low": -(2**63), "high": 2**64 - 1, "nul": "\0", "emoji": "\U0001f600", "f": 1e308}
    assert decode(json.dumps(doc).encode()) == doc


@pytest.mark.parametrize(
    "data",
    [b'{"a":"' + b'\\"' * 500_000, b'{"a":' + b"[]," * 340_000, b'{"a":[' + b"0," * 500_000,
     b"{" * MEBI, b'"' * MEBI, b"\\" * MEBI, b'{"a":"' + b'"\\' * 500_000],
)  # fmt: skip
def test_a_hostile_mebibyte_costs_bounded_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Invalid):
        decode(data)
    assert time.process_time() - started < 2


def test_a_refusal_never_carries_control_characters_of_the_file() -> None:
    for doc in (b'{"a\\u001b[2J":1,"a\\u001b[2J":2}', b'{"a\\u001b":{"\\ud800":1}}'):
        with pytest.raises(Invalid) as caught:
            decode(doc)
        assert str(caught.value).isprintable()
    assert str(refused({"task": "a", "\x1b[2J\n": 1})).isprintable()


# --- submit


def test_what_is_left_out_is_left_to_the_handler_and_the_settings() -> None:
    assert one() == actions.Task(
        id=None, task="thumb.make", args={}, at=DROPPED, deadline=None, lead=None, priority=None,
        front=False, retries=None, backoff=None, timeout=None, version=None, notify=None,
        on_miss="run", trace=None, meta={}, extra={}, submitted_at=DROPPED, uid=1000,
        digest=one().digest,
    )  # fmt: skip


def test_every_field_is_typed() -> None:
    task = one(
        id=ID, args=[1], at="+90s", deadline="2026-11-22", lead="1m", priority="high", retries=0,
        position="front", backoff="2h", timeout=30, version="1.4.2", notify="shop", on_miss="drop",
        trace=TRACE, meta={"a": 1}, **{"x-team": {"b": 2}},
    )  # fmt: skip
    assert task.id == ID
    assert task.at == DROPPED + 90 * times.SECOND
    assert times.format_utc(task.deadline or 0) == "2026-11-21T23:00:00.000000Z"
    assert (task.lead, task.timeout) == (60 * times.SECOND, 30 * times.SECOND)
    assert (task.front, task.retries, task.version) == (True, 0, "1.4.2")
    assert task.backoff == Backoff(base=2 * times.HOUR, factor=2, max=2 * times.HOUR)
    assert task.extra == {"x-team": {"b": 2}}


def test_a_default_may_be_said_without_what_it_goes_with() -> None:
    """A client may send every field; what asks for something that cannot be is refused."""
    assert one(on_duplicate="keep", on_failure="wait").key is None
    assert refused({"task": "a", "on_duplicate": "reject"}).field == "on_duplicate"
    assert refused({"task": "a", "on_failure": "run"}).field == "on_failure"


def test_tz_holds_for_every_time_wherever_it_stands() -> None:
    task = one(at="2026-12-01 10:00", deadline="2026-12-01 11:00", tz="Asia/Tokyo")
    assert times.format_utc(task.at) == "2026-12-01T01:00:00.000000Z"
    assert task.deadline == task.at + times.HOUR


def test_a_deadline_before_its_start_is_accepted() -> None:
    assert one(at="+2h", deadline="+1h").deadline


def test_args_may_be_any_json_even_null() -> None:
    everything: tuple[Any, ...] = (None, 0, "", [], {"a": "\0"}, False)
    for args in everything:
        assert one(args=args).args == args


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", ""), ("task", "a" * 65), ("task", "a\n"), ("task", "-a"), ("task", "a/b"),
        ("task", 1), ("task", None), ("id", "x"), ("id", ID.upper()), ("id", ID + "\n"), ("id", 1),
        ("id", "0193a5b27c4d4e8f9a0b1c2d3e4f5a6b"), ("id", "0193a5b27c4d7e8f0a0b1c2d3e4f5a6b"),
        ("id", "000000000000" + ID[12:]), ("id", "ffffffffffff" + ID[12:]), ("id", "../../etc"),
        ("at", "tomorrow"), ("at", None), ("at", True), ("deadline", "2026-02-30"),
        ("tz", "../../etc/passwd"), ("tz", "a" * 300), ("lead", -1), ("lead", "31d"),
        ("priority", "High"), ("priority", 1), ("position", "middle"), ("retries", True),
        ("retries", 3.0), ("retries", "3"), ("retries", -1), ("retries", 1001), ("backoff", "31d"),
        ("backoff", {}), ("backoff", {"base": 1, "factor": 0.5}), ("backoff", 1e300),
        ("backoff", {"base": 1, "factor": 101}), ("backoff", {"base": 1, "factr": 2}),
        ("backoff", {"base": 1, "max": "31d"}), ("backoff", [1]), ("timeout", 0), ("timeout", -1),
        ("timeout", 1e12), ("timeout", "1m1h"), ("version", -1), ("version", 2**31 + 1),
        ("version", True), ("version", "a b"), ("notify", ".."), ("notify", "a/b"),
        ("on_miss", "skip"), ("trace", "00-x"), ("trace", TRACE + "\n"),
        ("trace", f"00-{'0' * 32}-{'b' * 16}-01"), ("trace", f"00-{'a' * 32}-{'0' * 16}-01"),
        ("trace", f"ff-{'a' * 32}-{'b' * 16}-01"), ("meta", []), ("meta", {"a": "x" * 65536}),
        ("x-note", "a\0b"), ("x-note", {"a": ["\0"]}),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    error = refused({"task": "thumb.make", field: value})
    assert error.field.split(".")[0] == field
    assert error.rule


def test_a_task_with_every_is_a_schedule_called_as_its_key_or_as_itself() -> None:
    doc = {"task": "a.b", "every": "@daily", "args": [1], "priority": "low"}
    made = ask({**doc, "id": ID, "tz": "Europe/Berlin"})
    assert made == Schedule(name="a.b", table={**doc, "timezone": "Europe/Berlin"}, why=None)
    assert ask({**doc, "key": "k"}) == Schedule(name="k", table=doc, why=None)


@pytest.mark.parametrize(
    ("doc", "field"),
    [
        ({"task": "a", "every": "x"}, "every"),
        ({"every": "@daily"}, "task"),
        ({"task": 1, "every": "@daily"}, "task"),
        ({"task": "a", "every": "@daily", "key": "no name"}, "key"),
        ({"task": "a", "every": "@daily", "key": None}, "key"),
        ({"task": "a", "every": "@daily", "tz": "Nowhere"}, "tz"),
        ({"task": "a", "every": "@daily", "after": []}, "after"),
        ({"task": "a", "every": "@daily", "id": "mine"}, "id"),
        ({"tasks": [{"task": "a", "every": "@daily"}]}, "tasks[0].every"),
    ],
)
def test_a_task_with_every_is_refused_by_its_fields(doc: dict[str, Any], field: str) -> None:
    assert refused(doc).field == field


FIELDS_OF_TASKS: dict[str, Any] = {
    "args": {"a": 1}, "priority": "high", "position": "front", "lead": "5m", "retries": 7,
    "backoff": {"base": "1s", "factor": 3, "max": "1m"}, "timeout": "9s", "version": "1.4", "notify": "shop",
    "on_miss": "drop", "trace": TRACE, "meta": {"a": None}, "x-note": ["kept"],
}  # fmt: skip


def test_each_task_of_a_schedule_carries_what_one_that_comes_alone_does() -> None:
    found = ask({"task": "a", "every": "@daily", **FIELDS_OF_TASKS, "deadline": "2h"})
    made = occurrences.made(settings.schedule_of(found.name, found.table), NOW, DROPPED, "", 1000)
    alone = one(task="a", **FIELDS_OF_TASKS, at=NOW // times.SECOND, deadline="2026-11-21T14:00:00Z")
    own = ("id", "digest", "recurring", "key")
    assert replace(made, **{name: getattr(alone, name) for name in own}) == alone


def test_every_field_of_a_task_is_one_of_a_schedule_or_refused_with_the_reason() -> None:
    known = RECURRING_ROWS.keys() & TAKES["submit"].keys()
    assert known | NOT_CARRIED.keys() == TAKES["submit"].keys() | {"then"}
    assert not known & NOT_CARRIED.keys()
    for name, rule in NOT_CARRIED.items():
        with pytest.raises(Invalid) as caught:
            settings.schedule_of("a", {"task": "a", "every": "@daily", name: 1})
        assert (caught.value.field, caught.value.rule) == (name, rule)
    deadline = refused({"task": "a", "every": "@daily", "deadline": "2026-11-21T14:00:00Z"})
    assert "such as 90s, 2h30m, 3d or 500ms: in a schedule it counts from" in str(deadline)
    assert refused({"task": "a", "every": "@daily", "x-a": "\0"}).field == "x-a"


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"every": "x", "task": "a"}, "table.every"),
        ({"every": "@daily"}, "table.task"),
        ({"every": "@daily", "task": "spool.x"}, "table.task"),
        ({"every": "@daily", "task": "a", "evry": 1}, "table.evry"),
        ([], "table"),
    ],
)
def test_a_schedule_is_refused_by_the_key_of_its_table(table: object, field: str) -> None:
    assert refused({"action": "schedule", "name": "nightly", "table": table}).field == field


def test_a_value_is_shown_as_json_has_it() -> None:
    assert str(refused({"task": "a", "retries": True})).startswith("retries `true`: ")
    assert str(refused({"task": "a", "meta": [None]})).startswith("meta `[null]`: ")
    assert str(refused({"task": "a", "retries": "3"})).startswith('retries `"3"`: ')
    assert str(refused({"task": "a", "retry": '"'})).startswith('retry `"`: ')


def test_null_is_not_left_out_and_the_refusal_says_so() -> None:
    assert refused({"task": "a", "at": None}).rule.startswith("must not be null: leave it out, or else")
    assert refused({"task": None}).rule.startswith("must not be null: it must be 1 to 64")
    assert refused({"action": "hold", "ids": None}).rule.startswith("must not be null: leave it out")


@pytest.mark.parametrize("doc", [{"action": "cancel", "ids": [ID]}, {"action": "prune"}, ACK], ids=str)
def test_every_action_may_carry_meta(doc: dict[str, Any]) -> None:
    assert ask({**doc, "meta": {"a": 1}}) == ask(doc)
    assert refused({**doc, "meta": 1}).field == "meta"


def test_an_unknown_field_is_told_where_free_ones_go() -> None:
    assert refused({"task": "a", "b": 1}).rule.endswith("go into meta or are called x-...")
    assert refused({**ACK, "b": 1}).rule.endswith("go into meta or are called x-...")


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    assert refused({"task": "a", "priorty": "high"}).near == "priority"
    assert refused({"action": "cancel", "id": ID}).near == "ids"
    assert refused({"action": "cancle", "ids": [ID]}).near == "cancel"
    assert refused({"action": "hold", "match": {"tsk": "a"}}).near == "task"
    assert refused({"task": "a", "z" * 100_000: 1}).near is None
    assert refused({"task": "a", "PRIORITY": "high"}).near == "priority"
    assert refused({"task": "a", "evry": "@daily"}).near == "every"
    assert refused({"task": "a", "taks": []}).near in ("task", "tasks")
    assert refused({"tasks": [{"task": "a"}], "Then": {}}).near == "then"
    assert refused({"tasks": [{"task": "a"}], "priority": "high"}).near is None


@pytest.mark.parametrize(
    ("doc", "field", "value", "near"),
    [
        ({"task": "a", "prioritty": "high"}, "prioritty", "high", "priority"),
        ({"task": "a", "every": "@daily", "prioritty": "high"}, "prioritty", "high", "priority"),
        ({"task": "a", "then": {"task": "b"}}, "then", {"task": "b"}, None),
        ({"tasks": [{"task": "a", "every": "@daily"}]}, "tasks[0].every", "@daily", None),
        ({"tasks": [{"task": "a"}], "key": 7}, "key", 7, None),
        ({"task": "a", "backoff": {"base": 1, "facter": 3}}, "backoff.facter", 3, "factor"),
        ({"action": "hold", "match": {"stat": "done"}}, "match.stat", "done", "state"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": {"typ": "E"}}, "error.typ", "E", "type"),
    ],
)
def test_an_unknown_field_is_refused_with_its_value(
    doc: dict[str, Any], field: str, value: object, near: str | None
) -> None:
    error = refused(doc)
    assert (error.field, error.value, error.near) == (field, value, near)


def test_a_task_without_a_name_is_refused() -> None:
    assert refused({}).field == "task"


# --- batches


def test_a_batch_is_all_or_none_and_names_the_task_that_is_wrong() -> None:
    made = ask({"tasks": [{"task": "a"}, {"task": "b", "id": ID}]})
    assert made.batch
    assert [task.task for task in made.tasks] == ["a", "b"]
    bad = [{"task": "a"}, {"task": "a"}, {"task": "a"}, {"task": "a", "retries": -1}]
    assert refused({"tasks": bad}).field == "tasks[3].retries"


@pytest.mark.parametrize(
    ("doc", "field"),
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": [{"task": "a"}] * 10_001}, "tasks"),
        ({"tasks": [1]}, "tasks[0]"),
        ({"tasks": [{"tasks": [{"task": "a"}]}]}, "tasks[0].tasks"),
        ({"tasks": [{"task": "a", "action": "submit"}]}, "tasks[0].action"),
        ({"tasks": [{"task": "a"}], "priority": "high"}, "priority"),
        ({"tasks": [{"task": "a"}], "x-a": 1}, "x-a"),
        ({"tasks": [{"task": "a", "id": ID}, {"task": "b", "id": ID}]}, "tasks[1].id"),
        ({"tasks": [{"task": "spool.run", "args": {"argv": []}}]}, "tasks[0].args.argv"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(doc: dict[str, Any], field: str) -> None:
    assert refused(doc).field == field


# --- other actions


def test_every_other_action_is_typed() -> None:
    assert ask({"action": "cancel", "ids": [ID, OTHER, ID], "why": "old"}) == actions.Verb(
        kind="cancel", ids=(ID, OTHER), match=None, why="old"
    )
    assert ask({"action": "move", "ids": [ID], "position": "back"}) == actions.Move(
        ids=(ID,), match=None, priority=None, front=False, at=None, deadline=None, why=None
    )
    wanted = {"task": "mail.*", "state": "failed", "since": "+1h", "error": FP}
    assert ask({"action": "retry", "match": wanted}) == actions.Verb(
        kind="retry",
        ids=(),
        match=actions.Match(task="mail.*", state="failed", since=DROPPED + times.HOUR, error=FP),
        why=None,
    )
    assert ask({"action": "mute", "errors": [FP, FP], "until": "+1h"}) == actions.Care(
        kind="mute", errors=(FP,), until=DROPPED + times.HOUR, why=None
    )
    assert ask({"action": "ack", "id": ID, "attempt": 1}) == actions.Ack(id=ID, attempt=1, result=None)
    assert ask({"action": "fail", "id": ID, "attempt": 2, "error": "no"}) == actions.Fail(
        id=ID,
        attempt=2,
        error={"type": "error", "message": "no", "trace": ""},
        retry=True,
        delay=None,
    )
    assert ask({"action": "extend", "id": ID, "attempt": 1, "by": "1m"}) == actions.Extend(
        id=ID, attempt=1, by=times.MINUTE
    )
    assert ask({"action": "progress", "id": ID, "attempt": 1, "percent": 50}) == actions.Progress(
        id=ID, attempt=1, percent=50.0, note=None
    )
    assert ask({"action": "pause", "task": "thumb.*", "until": "+1h"}) == actions.Control(
        kind="pause", node=None, task="thumb.*", who=None, why=None, until=DROPPED + times.HOUR
    )


@pytest.mark.parametrize(
    ("doc", "field"),
    [
        ({"action": "cancel"}, "ids"),
        ({"action": "cancel", "ids": []}, "ids"),
        ({"action": "cancel", "ids": [ID], "match": {"task": "a"}}, "match"),
        ({"action": "cancel", "match": {}}, "match"),
        ({"action": "cancel", "match": "a"}, "match"),
        ({"action": "cancel", "match": {"id": ID}}, "match.id"),
        ({"action": "cancel", "match": {"task": "a b"}}, "match.task"),
        ({"action": "cancel", "match": {"state": "new"}}, "match.state"),
        ({"action": "cancel", "match": {"since": "soon"}}, "match.since"),
        ({"action": "cancel", "match": {"error": "x"}}, "match.error"),
        ({"action": "resolve"}, "errors"),
        ({"action": "resolve", "errors": []}, "errors"),
        ({"action": "resolve", "errors": ["x"]}, "errors"),
        ({"action": "resolve", "errors": [FP], "until": "+1h"}, "until"),
        ({"action": "cancel", "ids": ID}, "ids"),
        ({"action": "cancel", "ids": [ID, "x"]}, "ids[1]"),
        ({"action": "cancel", "ids": [ID] * 10_001}, "ids"),
        ({"action": "cancel", "ids": [ID], "why": "x" * 1001}, "why"),
        ({"action": "cancel", "ids": [ID], "why": "\0"}, "why"),
        ({"action": "cancel", "ids": [ID], "priority": "low"}, "priority"),
        ({"action": "move", "ids": [ID]}, "move"),
        ({"action": "move", "ids": [ID], "tz": "UTC"}, "move"),
        ({"action": "ack", "id": ID}, "attempt"),
        ({"action": "ack", "id": ID, "attempt": 0}, "attempt"),
        ({"action": "ack", "id": ID, "attempt": True}, "attempt"),
        ({"action": "fail", "id": ID, "attempt": 1}, "error"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": {}}, "error"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": {"message": 1}}, "error.message"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": {"code": 1}}, "error.code"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": "x", "retry": 1}, "retry"),
        ({"action": "fail", "id": ID, "attempt": 1, "error": "x", "delay": "300w"}, "delay"),
        ({"action": "extend", "id": ID, "attempt": 1, "by": 0}, "by"),
        ({"action": "progress", "id": ID, "attempt": 1, "percent": 101}, "percent"),
        ({"action": "progress", "id": ID, "attempt": 1, "percent": True}, "percent"),
        ({"action": "progress", "id": ID, "attempt": 1, "note": "x" * 1001}, "note"),
        ({"action": "pause", "task": "a?"}, "task"),
        ({"action": "pause", "node": "a", "task": "b"}, "node"),
        ({"action": "resume", "until": "+1h"}, "until"),
        ({"action": "pause", "until": "2020-01-01"}, "until"),
        ({"action": "drain", "until": "+0s"}, "until"),
        ({"action": "mute", "errors": [FP], "until": "2020-01-01"}, "until"),
        ({"action": "explode"}, "action"),
        ({"action": 1}, "action"),
        ({"action": []}, "action"),
    ],
)
def test_a_bad_action_is_refused_by_field(doc: dict[str, Any], field: str) -> None:
    assert refused(doc).field == field


def test_free_fields_are_allowed_on_every_action() -> None:
    assert ask({"action": "resume", "x-ticket": 7})


# --- digest and own copy


def test_the_digest_is_the_content_without_the_id() -> None:
    digest = ask({"task": "a", "args": {"x": 1, "y": 2}, "at": "+1h"}).tasks[0].digest
    again = {"action": "submit", "at": "+1h", "id": ID, "args": {"y": 2, "x": 1}, "task": "a"}
    assert ask(again).tasks[0].digest == digest
    assert (
        ask({"tasks": [{"task": "a", "args": {"x": 1, "y": 2}, "at": "+1h"}]}).tasks[0].digest == digest
    )
    assert one(args={"x": 1, "y": 2.0}, at="+1h").digest != digest
    assert len(digest) == 32


def test_an_own_copy_reads_back_as_the_same_task() -> None:
    task = one(
        id=ID, at="+0.000001s", lead=0.1, backoff={"base": 0.000001, "factor": 1.5}, timeout="1ms",
        version=0, position="front", on_miss="fail", args={"b": [1, 1.5, "\0\u20ac"]}, meta={"m": None},
        **{"x-a": 1},
    )  # fmt: skip
    assert actions.decode_task(actions.encode_task(task)) == task


def test_an_own_copy_keeps_what_a_newer_version_wrote() -> None:
    doc = json.loads(actions.encode_task(one(id=ID)))
    task = actions.decode_task(json.dumps(doc | {"colour": "red"}).encode())
    assert task.extra == {"colour": "red"}
    assert json.loads(actions.encode_task(task))["colour"] == "red"


def test_a_task_without_id_has_no_own_copy() -> None:
    with pytest.raises(Invalid, match="id"):
        actions.encode_task(one())


DAMAGE = [
    {"v": 2}, {"v": True}, {"v": None}, {"id": None}, {"id": 1}, {"id": "x"}, {"task": "/"},
    {"at": None}, {"at": 1}, {"at": "2026"}, {"deadline": "soon"}, {"lead": "x"}, {"lead": -1},
    {"priority": "urgent"}, {"retries": True}, {"retries": "3"}, {"backoff": {}}, {"meta": []},
    {"submitted_by": []}, {"submitted_by": {"uid": "root"}}, {"position": 3}, {"digest": 5},
]  # fmt: skip


@pytest.mark.parametrize("change", DAMAGE)
def test_a_damaged_own_copy_is_refused(change: dict[str, Any]) -> None:
    doc = json.loads(actions.encode_task(one(id=ID)))
    with pytest.raises(Invalid):
        actions.decode_task(json.dumps(doc | change).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\0" * 100, b'{"v":1}', b"\xff"])
def test_bytes_that_are_no_own_copy_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        actions.decode_task(data)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        one().at = 1  # type: ignore[misc]


# --- names of our own


@pytest.mark.parametrize("name", ["spool.alert", "spool.", "spool.running", "spool.run.x"])
def test_a_name_that_is_ours_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask({"task": name})
    assert (caught.value.field, caught.value.value) == ("task", name)
    assert "spool.run may be submitted" in caught.value.rule
    assert ask({"task": name.replace(".", "-", 1)}).tasks[0].task == name.replace(".", "-", 1)


# --- spool.run


@pytest.mark.parametrize(
    "args",
    [
        {"argv": ["ls", "$(id)", "; rm -rf /", "", "\x1b]0;x"]},
        {"argv": ["a"], "cwd": "/", "env": {"PATH": "/bin", "A": ""}},
        {"argv": ["a"] * 1024},
    ],
)
def test_a_command_line_is_taken_literally(args: dict[str, Any]) -> None:
    actions.check_run_args(args)
    assert ask({"task": "spool.run", "args": args}).tasks[0].args == args


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ([], "args"), ({}, "args.argv"), ({"argv": "ls -l"}, "args.argv"), ({"argv": []}, "args.argv"),
        ({"argv": [""]}, "args.argv"), ({"argv": ["a", 1]}, "args.argv[1]"),
        ({"argv": ["a\0"]}, "args.argv[0]"), ({"argv": ["a"] * 1025}, "args.argv"),
        ({"argv": ["a", "x" * 65537]}, "args.argv[1]"), ({"argv": ["x" * 65536] * 17}, "args.argv"),
        ({"argv": ["a"], "shell": True}, "args"), ({"argv": ["a"], "cwd": "tmp"}, "args.cwd"),
        ({"argv": ["a"], "cwd": "/a/../b"}, "args.cwd"), ({"argv": ["a"], "cwd": ""}, "args.cwd"),
        ({"argv": ["a"], "cwd": "/\0"}, "args.cwd"), ({"argv": ["a"], "env": []}, "args.env"),
        ({"argv": ["a"], "env": {"": "x"}}, "args.env"), ({"argv": ["a"], "env": {"A=B": ""}}, "args.env"),
        ({"argv": ["a"], "env": {"A\0": ""}}, "args.env"), ({"argv": ["a"], "env": {"A": 1}}, "args.env.A"),
        ({"argv": ["a"], "env": {"A": "\0"}}, "args.env.A"),
        ({"argv": ["a"], "env": {str(i): "" for i in range(501)}}, "args.env"),
        ({"argv": ["a"], "env": {str(i): "x" * 60_000 for i in range(18)}}, "args.env"),
        *(({"argv": ["a"], "env": {name: ""}}, "args.env") for name in
          ("LD_PRELOAD", "BASH_FUNC_x%%", "PYTHONPATH", "NOTIFY_SOCKET", "SPOOL_ID")),
    ],
)  # fmt: skip
def test_a_command_that_cannot_or_must_not_start_is_refused(args: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        actions.check_run_args(args)
    assert caught.value.field == field
