"""Results of other tasks in args: what may be named, what is found, what is said where it is not there."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spool import layout, packs, results, waiting
from spool.actions import interpret
from spool.disk import Missing, RealDisk
from spool.errors import Invalid, Unrecorded
from spool.names import Entry, id_from
from spool.owncopy import encode_task, first_entry
from spool.place import Place
from spool.records import decode, encode
from spool.settings import load
from spool.tasks.signature import Signature
from spool.times import zone
from spoold.core.state import State
from spoold.core.values import Ask, Now
from spoold.effects.results import A_ROUND, FORGOTTEN, MANY, OUSTED, Results, with_results
from spoold.loop import Core

NOW = 1_790_000_000_000_000
A, B, C, D, E = (id_from(NOW, bytes([n]) * 10) for n in range(5))
words = st.text("abc", min_size=1, max_size=3)
jsons = st.recursive(
    st.none() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
)


def asked(*bodies: dict[str, Any]) -> Any:
    doc: dict[str, Any] = bodies[0] if len(bodies) == 1 else {"tasks": list(bodies)}
    return interpret(doc, now=NOW, dropped=NOW, zone=zone("UTC"), uid=1).tasks


def test_who_is_given_a_result_waits_for_it() -> None:
    args = {"x": [{"$result": A}, {"$result": B, "path": "url"}], "y": {"$result": A, "path": ["a.b", 0]}}
    task = asked({"task": "t", "args": args, "after": [C]})[0]
    assert (task.results, task.after) == ((A, B), (C, A, B))


@pytest.mark.parametrize(
    ("value", "field", "rule"),
    [
        ({"$result": 5}, "args.x.$result", "must be an id"),
        ({"$result": A, "Path": "u"}, "args.x.Path", "goes with path"),
        ({"$result": A, "path": ""}, "args.x.path", "must be text"),
        ({"$result": A, "path": "a..b"}, "args.x.path", "must be text"),
        ({"$result": A, "path": [-1]}, "args.x.path", "must be text"),
        ({"$result": A, "path": [True]}, "args.x.path", "must be text"),
        ({"$result": "other"}, "args", "no ref"),
        ([{"$result": A}] * 1001, "args", "at most 1000"),
    ],
)
def test_a_result_named_badly_is_refused_by_its_place(value: object, field: str, rule: str) -> None:
    with pytest.raises(Invalid) as found:
        asked({"task": "t", "args": {"x": value}})
    assert found.value.field == field
    assert rule in found.value.rule


def test_two_that_wait_for_each_others_result_are_refused() -> None:
    bodies = [{"task": "t", "ref": a, "args": {"$result": b}} for a, b in ("xy", "yx")]
    with pytest.raises(Invalid, match="circle"):
        asked(*bodies)


@given(jsons)
def test_what_names_no_result_stays_as_it_is(args: Any) -> None:
    assert results.swapped(args, lambda *_: 1 / 0, "args") == args
    assert results.named(args) == ()


@given(jsons, st.lists(words | st.integers(0, 2), max_size=3))
def test_a_path_leads_where_its_steps_lead_or_tells_the_first_that_does_not(
    value: Any, path: list[str | int]
) -> None:
    found, missing = value, None
    for step in path:
        if isinstance(found, dict) and str(step) in found:
            found = found[str(step)]
        elif isinstance(found, list) and type(step) is int and step < len(found):
            found = found[step]
        else:
            missing = str(step)
            break
    if missing is None:
        assert results.at(value, path) == found
    else:
        with pytest.raises(LookupError) as said:
            results.at(value, path)
        assert said.value.args == (missing,)


def ended(disk: RealDisk, task_id: str, event: str, result: Any = None, **more: Any) -> None:
    """A task that has ended."""
    entry = layout.ended(event, NOW, Entry(time=NOW, id=task_id, task="t", prio="low", base="low"))
    content = {"id": task_id, "event": event, "entry": entry, "result": result, **more}
    for path in (entry, layout.own_copy(task_id), layout.record(task_id, 1)):
        disk.make_dir(path.rpartition("/")[0])
        disk.write(path, encode(content))


def placed(args: Any, **more: Any) -> Place:
    task = replace(asked({"task": "t", "id": D, "args": args})[0], **more)
    return Place("pending", "", None, task)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "value", "lacks"),
    [
        ({"$result": A}, {"url": "u", "rows": [{"n": 7}]}, ""),
        ({"$result": A, "path": "rows.0.n"}, 7, ""),
        (
            {"$result": A, "path": "rows.1"},
            None,
            f"args.x: the result of {A} has no rows.1 (nothing at 1)",
        ),
        ({"$result": A, "path": "url.n"}, None, "has no url.n (nothing at n)"),
        ({"$result": A, "path": "url.0"}, None, "nothing at 0"),
        ({"$result": A, "path": "rows.-1"}, None, "nothing at -1"),
        ({"$result": B, "path": "url"}, None, ""),  # it has failed
        ({"$result": C}, None, "no longer kept"),
        ({"$result": E}, None, "is lost"),
    ],
)
def test_results_stand_in_the_args_or_it_is_said_what_is_not_there(
    disk: RealDisk, reference: dict[str, Any], value: object, lacks: str
) -> None:
    ended(disk, A, "done", {"url": "u", "rows": [{"n": 7}]})
    ended(disk, B, "failed")
    ended(disk, E, "done", error={"type": "unrecorded"})  # by `spool fsck --repair`
    found = with_results(disk, placed({"x": reference, "y": 1}), 1000)
    assert lacks in found.lacks
    assert bool(lacks) == bool(found.lacks)
    assert lacks or found.task.args == {"x": value, "y": 1}


@pytest.mark.parametrize("before", [None, "retrying", "failed"])
def test_a_task_that_was_packed_without_the_record_of_its_end_has_ended_and_its_result_is_lost(
    disk: RealDisk, before: str | None
) -> None:
    """An earlier attempt, which did not end it or whose end was taken back, is not taken for the end."""
    entry = layout.ended("done", NOW, Entry(time=NOW, id=A, task="t", prio="low", base="low"))
    rows: list[dict[str, Any]] = []
    if before is not None:
        place = "failed" if before == "failed" else "pending"
        rows = [{"id": A, "event": before, "entry": entry.replace("done", place), "attempt": 1}]
    line = packs.line(entry, encode_task(asked({"task": "t", "id": A})[0]), rows)
    disk.make_dir("packed/2026-09-21")
    disk.write("packed/2026-09-21/2099-01-01.1.jsonl.gz", gzip.compress(line))
    disk.write("packed/2026-09-21/2099-01-01.1.ids", f"{A} {'d' * 32}\n".encode())
    assert waiting.how_ended(disk, A) == "done"
    assert "is lost" in with_results(disk, placed({"$result": A}), 1000).lacks
    with pytest.raises(Unrecorded, match="is packed"):
        waiting.ended(disk, disk.root, A, 0)


def test_a_record_that_a_file_server_shows_late_is_not_taken_for_lost(disk: RealDisk) -> None:
    ended(disk, A, "done", 7)
    seen: list[str] = []

    class Late(RealDisk):
        def read(self, path: str, limit: int) -> bytes:
            if path.startswith("attempts") and not seen:
                raise Missing(path)
            return super().read(path, limit)

        def stamp(self, path: str) -> int | None:
            seen.append(path)
            return super().stamp(path)

    late = Late(disk.root)
    found = with_results(late, placed({"x": {"$result": A}}), 1000)
    late.close()
    assert (found.lacks, found.task.args) == ("", {"x": 7})


def test_results_are_bounded_and_of_ones_own_tasks(disk: RealDisk) -> None:
    ended(disk, A, "done", "x" * 300, submitted_by={"uid": 1, "key": None})
    twice = [{"$result": A}, {"$result": A}]
    assert "max_action_bytes" in with_results(disk, placed(twice), 500).lacks
    assert with_results(disk, placed(twice, writer="1"), 5000).lacks == ""
    assert "another writer" in with_results(disk, placed(twice, writer="2", uid=2), 5000).lacks
    deep: Any = 1
    for _ in range(240):
        deep = [deep]
    ended(disk, B, "done", deep)
    nested: Any = {"$result": B}
    for _ in range(25):
        nested = [nested]
    assert "cannot be written" in with_results(disk, placed(nested), 5000).lacks


class Counting(RealDisk):
    """Counts how often records are read."""

    reads = 0

    def read(self, path: str, limit: int) -> bytes:
        self.reads += path.startswith("attempts/")
        return super().read(path, limit)


def test_a_record_is_read_once_however_often_its_result_is_named(disk: RealDisk) -> None:
    ended(disk, A, "done", 7)
    disk.move(layout.record(A, 1), layout.record(A, 8))
    for number in range(1, 8):
        disk.write(layout.record(A, number), encode({"id": A, "event": "retrying", "will_retry": True}))
    counting = Counting(disk.root)
    found = with_results(counting, placed([{"$result": A}] * 1000), 10_000)
    counting.close()
    assert (found.task.args, counting.reads) == ([7] * 1000, 1)


def test_nothing_more_is_read_once_the_results_are_too_large(disk: RealDisk) -> None:
    for one in (A, B, C):
        ended(disk, one, "done", "x" * 300)
    counting = Counting(disk.root)
    found = with_results(counting, placed([{"$result": one} for one in (A, B, C)]), 500)
    counting.close()
    assert ("max_action_bytes" in found.lacks, counting.reads) == (True, 2)


def test_results_of_many_large_records_are_looked_for_in_turns_and_each_record_once(
    disk: RealDisk,
) -> None:
    for number, one in enumerate((A, B, C)):
        ended(disk, one, "done", number, args="x" * A_ROUND)
    counting = Counting(disk.root)
    gathered = Results(counting)
    first = placed([{"$result": one} for one in (C, A, B, A)])
    other = replace(placed({"$result": A}), path="other")
    seen: list[tuple[bool, bool]] = []
    for turn in range(4):
        gathered.turn(Now(0, turn))
        found, behind = gathered.put_in(first, 1000), gathered.put_in(other, 1000)
        seen.append((found.later, behind.later))
        if not found.later:
            break
        assert gathered.known("other") is other
    counting.close()
    assert (seen, counting.reads) == ([(True, True), (True, True), (False, True)], 3)
    assert found.task.args == [2, 0, 1, 0]
    gathered.turn(Now(0, FORGOTTEN + 3))  # the other was cancelled, say
    assert gathered.known("other") is None


def test_who_cannot_go_on_has_no_other_wait(disk: RealDisk) -> None:
    for one in (A, B, C):
        ended(disk, one, "done", 7, args="x" * A_ROUND)
    gathered = Results(disk)
    many = [replace(placed([{"$result": one} for one in (A, B, C)]), path=f"{n}") for n in range(MANY)]
    other = replace(placed({"$result": A}), path="other")
    for turn in (1, 2):
        gathered.turn(Now(0, turn * OUSTED))
        assert all(gathered.put_in(one, 1000).later for one in many)
        assert gathered.put_in(other, 1000).later
        assert gathered.known("other") is None, "as many as may are at it"
    gathered.turn(Now(0, 3 * OUSTED))  # now the others are held, say
    assert gathered.put_in(other, 1000).task.args == 7
    assert [one.path for one in many if gathered.known(one.path) is None] == [f"{MANY - 1}"]
    for path, known in (("next", True), ("last", False)):  # one of them makes room a second
        assert gathered.put_in(replace(many[0], path=path), 1000).later
        assert (gathered.known(path) is not None) is known


def test_one_that_is_looked_for_in_packs_is_enough_for_a_round(disk: RealDisk) -> None:
    ended(disk, A, "done", 7)
    disk.write(layout.own_copy(B), b"")  # it has not ended
    gathered = Results(disk)
    place = placed([{"$result": one} for one in (B, A)])
    for turn, later in enumerate((True, False)):
        gathered.turn(Now(0, turn))
        assert gathered.put_in(place, 1000).later is later


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"id":7}', b'{"args":' + b"[" * 99_999, b'{"n":7}'])
def test_a_damaged_record_is_a_lost_result(disk: RealDisk, data: bytes) -> None:
    ended(disk, A, "done", "it")
    whole = disk.read(layout.record(A, 1), 1000)
    for record in (data, whole.replace(b'"it"', b"1e999")):
        disk.remove(layout.record(A, 1))
        disk.write(layout.record(A, 1), record)
        assert "is lost" in with_results(disk, placed({"$result": A}), 1000).lacks


def test_who_is_at_it_is_read_once(disk: RealDisk) -> None:
    for one in (A, B):
        ended(disk, one, "done", 7, args="x" * A_ROUND)
    task = asked({"task": "t", "id": D, "args": [{"$result": one} for one in (A, B)]})[0]
    path = layout.pending(first_entry(task))
    disk.make_dir(layout.parent_of(path))
    disk.write(path, encode_task(task))
    core: Any = Core.__new__(Core)
    core.disk, core.results, core.state = disk, Results(disk), State("n", load(""), 2)
    ask = Ask("claim", (D,), {D: path})
    core.results.turn(Now(0, 1))
    assert core._found(ask, Now(0, 1))[D].later
    disk.remove(path)
    core.results.turn(Now(0, 2))
    assert core._found(ask, Now(0, 2))[D].task.args == [7, 7]


def test_on_failure_goes_with_a_result_as_with_after() -> None:
    doc = {"task": "t", "args": {"$result": A}, "on_failure": "run"}
    found = interpret(doc, now=0, dropped=0, zone=zone("UTC"), uid=None)
    assert found.tasks[0].after == (A,)  # type: ignore[union-attr]
    with pytest.raises(Invalid, match="goes with after"):
        interpret({**doc, "args": {}}, now=0, dropped=0, zone=zone("UTC"), uid=None)


def test_a_call_may_name_a_result_for_any_argument() -> None:
    def scaled(url: str, size: int = 1) -> None:
        del url, size

    signature = Signature(scaled, "scaled")
    given_ = signature.pack((results.result(A, "url"),), {"size": results.result(B)})
    assert given_ == {"url": {"$result": A, "path": "url"}, "size": {"$result": B}}
    with pytest.raises(Invalid):
        signature.pack((results.result(A, ""),), {})
    with pytest.raises(Invalid):
        signature.pack((results.result(A),), {"colour": 1})


def test_a_record_is_read_whatever_its_result_breaks() -> None:
    deep = b"[" * 100 + b"]" * 100
    for result in (b'{"a":1,"a":2}', b"12345678901234567890123", deep):
        assert decode(b'{"id":"%s","result":%s}' % (A.encode(), result))["id"] == A
