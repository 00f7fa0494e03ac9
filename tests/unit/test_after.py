"""Who waits for whom: what is said of each, at once, with a bounded number of looks in a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import layout
from spool.actions import interpret
from spool.dependencies import resolved
from spool.disk import Missing, RealDisk
from spool.errors import Invalid
from spool.init import init
from spool.names import are_ids, id_from
from spool.owncopy import encode_task
from spool.place import first_path
from spool.settings import load
from spool.times import zone
from spoold.core.state import State
from spoold.core.values import Move, Now
from spoold.sources.after import EVERY, HOUR, LOOKS, NONE_FAILED, OFTEN, RARELY, After

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spool.owncopy import Task

NOW = 1_790_000_000_000_000
KINDS = ("wait", "cancel", "run", "only")


def named(number: int) -> str:
    return id_from(NOW, number.to_bytes(10, "big"))


class Files:
    """A disk that has own copies in held/ and nothing else."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def slices(self, _path: str, _size: int) -> Iterator[list[str]]:
        yield [path.rpartition("/")[2] for path in self.held]

    def names(self, _path: str) -> list[str]:
        return []

    def read(self, path: str, _limit: int) -> bytes:
        if path not in self.held:
            raise Missing(2, "none", path)
        return self.held[path]


class Told(After):
    """One that knows how tasks have ended from a table, and counts how often it looks."""

    def __init__(self, *waiters: Task) -> None:
        self.files = Files()
        self.ends: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.most = self.asked = self.mono = 0
        super().__init__(self.files, State("n", load(""), 2))  # type: ignore[arg-type]
        for task in waiters:
            self.files.held[first_path(task, None)] = encode_task(task)

    def _end(self, task_id: str) -> str:
        self._looks -= 1
        self.asked += 1
        return self.ends.get(task_id, "")

    def rest(self) -> None:
        """Turn by turn until there is nothing to look at."""
        while self.due(Now(NOW, self.mono)) == 0:
            self.asked = 0
            for found in self.look(Now(NOW, self.mono)):
                gone = {**found.free, **{i: path for i, (path, _) in found.stranded.items()}}
                self.said |= dict.fromkeys(found.free, "") | {
                    i: w for i, (_, w) in found.stranded.items()
                }
                for path in gone.values():
                    del self.files.held[path]
            self.most = max(self.most, self.asked)

    def end(self, task_id: str, how: str) -> None:
        self.ends[task_id] = how
        entry: Any = type("Entry", (), {"id": task_id, "why": ""})
        self.see(Move(event="x", entry=entry, before="running", after=how, source=None, target=""))

    def end_elsewhere(self, task_id: str, how: str) -> None:
        self.ends[task_id] = how
        self.ask()
        self.mono += OFTEN


def waits(number: int, after: list[str], on_failure: str) -> Task:
    doc = {"task": "t", "id": named(number), "after": after, "on_failure": on_failure}
    found: Any = interpret(doc, now=NOW, dropped=NOW, zone=zone("UTC"), uid=1)
    task: Task = found.tasks[0]
    return task


def wanted(task: Task, ends: dict[str, str]) -> str | None:
    """What is to be said of a task, None where it waits; written down apart from the code."""
    known = [ends.get(one, "") for one in task.after]
    bad = any(end in ("failed", "cancelled") for end in known)
    if task.on_failure == "only":
        return "" if bad else NONE_FAILED if all(known) else None
    if task.on_failure == "cancel" and bad:
        return "stranded"
    return "" if all(end == "done" or (end and task.on_failure == "run") for end in known) else None


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sets(st.integers(0, 7), min_size=1)), max_size=6),
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(("done", "failed", "cancelled", ""))), max_size=30
    ),
    st.integers(0, 5),
    st.sampled_from(("end", "end_elsewhere")),
)
def test_what_is_to_be_said_is_said_as_soon_as_it_is_so(
    shapes: list[tuple[str, set[int]]], events: list[tuple[int, str]], before: int, end: str
) -> None:
    """Also of what has ended before it came or on another node, and where one is tried again."""
    tasks = [
        waits(100 + n, [named(i) for i in sorted(ids)], kind) for n, (kind, ids) in enumerate(shapes)
    ]
    after = Told(*tasks)
    for number, (one, how) in enumerate(events):
        if after.ends.get(named(one)) == "done":
            continue  # that is for ever
        if how:
            getattr(after, end)(named(one), how)
        else:
            after.ends.pop(named(one), None)  # a retry
        if number < before:
            continue
        after.rest()
        for task in tasks:
            want = wanted(task, after.ends)
            said = after.said.get(task.id or "")
            if want is not None:
                assert said == want or (want == "stranded" and said)
                after.said[task.id or ""] = want
                tasks = [t for t in tasks if t is not task]
            else:
                assert said is None


def test_what_another_node_had_taken_in_is_found_when_that_is_gone() -> None:
    after = Told()
    after.rest()
    late = waits(100, [named(1)], "run")
    after.files.held[first_path(late, None)] = encode_task(late)
    after.end(named(1), "done")
    after.rest()
    assert not after.said
    after.again()
    after.rest()
    assert after.said == {late.id: ""}


def test_a_name_that_is_old_forgets_nobody() -> None:
    """A scan may come by with the name from before its deadline was told."""
    after = Told(task := waits(100, [named(1)], "run"))
    old = first_path(task, None)
    new = old.replace(",w=", ",u=2,w=")
    after.rest()
    after.files.held[new] = after.files.held.pop(old)
    entry: Any = type("Entry", (), {"id": task.id, "why": "after"})
    after.see(Move(event="late", entry=entry, before="held", after="held", source=old, target=new))
    after._found(old.rpartition("/")[2])
    after.rest()
    after.end(named(1), "done")
    after.rest()
    assert after.said == {task.id: ""}


def test_the_more_is_waited_for_the_more_seldom_is_it_looked_at() -> None:
    ids = [named(number) for number in range(3000)]
    after = Told(*(waits(10_000 + number, [one], "run") for number, one in enumerate(ids)))
    after.rest()
    for due in (0, EVERY - OFTEN, EVERY - 2 * OFTEN):
        after.ask()
        assert after.due(Now(NOW, after.mono)) == due
        after.rest()
        after.mono += OFTEN
    assert after.most <= LOOKS


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_looks_a_bounded_number_of_times_however_many_the_edges(kind: str) -> None:
    many = [named(number) for number in range(2000)]
    tasks = [waits(10_000 + number, many, kind) for number in range(20)]
    after = Told(*tasks)
    after.rest()
    assert not after.said
    for one in many:
        after.end(one, "done")
        after.rest()
    assert after.said == dict.fromkeys((t.id for t in tasks), NONE_FAILED if kind == "only" else "")
    assert after.most <= LOOKS


class Listing(RealDisk):
    """Counts how often it lists what was put aside."""

    times = 0

    def names(self, path: str) -> list[str]:
        self.times += path == layout.CORRUPT
        return super().names(path)


def test_what_was_put_aside_is_listed_once_a_turn_and_again_where_it_has_changed(tmp_path: Path) -> None:
    init(root := str(tmp_path / "spool"))
    disk, gone = Listing(root), [named(number) for number in range(2 * LOOKS)]
    for number, one in enumerate(gone):
        task = waits(10_000 + number, [one], "wait" if number else "run")
        disk.write(first_path(task, None), encode_task(task))
        if number:
            disk.write(f"{layout.CORRUPT}/{one}", b"")
    after, mono, found = After(disk, State("n", load(""), 2)), 0, []

    def rest() -> int:
        nonlocal mono
        disk.times, turns, mono = 0, 0, mono + RARELY
        while after.due(Now(NOW, mono)) == 0:
            found.extend(after.look(Now(NOW, mono)))
            turns, mono = turns + 1, mono + 1
        return turns

    assert rest() >= disk.times > 0
    assert rest() > 2
    assert disk.times == 1  # the first may have been as young as what it has seen
    assert rest() > 2
    assert (disk.times, found) == (0, [])
    disk.write(f"{layout.CORRUPT}/{gone[0]}", b"")
    rest()
    assert [one for settled in found for one in settled.free] == [named(10_000)]


class Searched(RealDisk):
    """Counts the listings of what is done on one day."""

    times = 0

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        self.times += path.startswith(layout.DONE)
        return super().slices(path, size)


def test_what_has_ended_is_listed_at_start_and_once_an_hour(tmp_path: Path) -> None:
    init(root := str(tmp_path / "spool"))
    disk, task = Searched(root), waits(1, [named(2)], "wait")
    disk.write(first_path(task, None), encode_task(task))
    disk.make_dir(f"{layout.DONE}/2026-11-20")
    after = After(disk, State("n", load(""), 2))
    for mono in range(0, HOUR + 1, RARELY // 2):
        while after.due(Now(NOW, mono)) == 0:
            after.look(Now(NOW, mono))
        assert disk.times == (1 if mono < HOUR else 2)


def test_a_batch_has_a_task_that_comes_behind_all_of_it() -> None:
    docs = [{"task": "a"}, {"task": "b", "ref": "task-0"}, {"task": "c", "id": named(1)}]
    for then, kind in (({"task": "z"}, "run"), ({"task": "z", "on_failure": "only"}, "only")):
        doc = {"tasks": docs, "then": then}
        found: Any = interpret(doc, now=NOW, dropped=NOW, zone=zone("UTC"), uid=1)
        last = found.tasks[-1]
        assert (len(found.tasks), last.task, last.on_failure) == (4, "z", kind)
        assert last.after == ("task-0-", "task-0", named(1))
    assert layout.HELD in first_path(resolved(found.tasks)[-1], None)


def test_a_batch_of_too_many_edges_is_refused_by_the_number() -> None:
    refs = [f"r{number}" for number in range(320)]
    docs: list[dict[str, Any]] = [{"task": "t", "ref": ref} for ref in refs]
    docs += [{"task": "t", "after": refs} for _ in range(312)]
    assert len(interpret({"tasks": docs}, now=NOW, dropped=NOW, zone=zone("UTC"), uid=1).tasks) == 632  # type: ignore[union-attr]
    with pytest.raises(Invalid, match=r"at most 100000 .* not 100160"):
        interpret({"tasks": [*docs, docs[-1]]}, now=NOW, dropped=NOW, zone=zone("UTC"), uid=1)


def test_a_list_of_ids_is_one_of_ids_alone() -> None:
    assert are_ids([named(1), named(2)])
    assert not any(are_ids(bad) for bad in ([named(1), 5], [None], ["x"], [named(1).upper()]))
