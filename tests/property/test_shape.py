"""The shape of a queue: what is counted fast is what would be counted one by one, whoever adds it up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from spool.names import DAY_US, PRIORITIES, Entry, date_of, entry_name, id_from
from spool.shape import BOUNDS, Shape

NOW = 1_795_305_540_123_456
SPAN = 10 * DAY_US
ages = st.one_of(
    st.integers(-SPAN, SPAN),
    st.builds(lambda b, d: b * 1_000_000 + d, st.sampled_from((0, *BOUNDS)), st.integers(-1, 1)),
)
waiting = st.lists(
    st.tuples(ages, st.sampled_from(["a", "b.c", "d-e"]), st.sampled_from(PRIORITIES)), max_size=30
)


def names(rows: list[tuple[int, str, str]]) -> dict[str, list[tuple[str, int, str]]]:
    """Directory -> (name, age, task) of what stands in it."""
    found: dict[str, list[tuple[str, int, str]]] = {}
    for number, (age, task, prio) in enumerate(rows):
        entry = Entry(
            time=NOW - age, id=id_from(NOW, bytes([number] * 10)), task=task, prio=prio, base=prio
        )
        folder = f"pending/{date_of(entry.time)}/{prio}"
        found.setdefault(folder, []).append((entry_name(entry, dated=False), age, task))
    return found


@given(waiting)
def test_every_task_is_in_the_bucket_of_its_age(rows: list[tuple[int, str, str]]) -> None:
    shape = Shape(NOW)
    wanted: Counter[tuple[str, str, int]] = Counter()
    for folder, held in names(rows).items():
        shape.wait(folder, [*(name for name, _, _ in held), ".staged", "else", "12,3"])
        for _, age, task in held:
            bucket = 0 if age < 0 else 1 + bisect_left(BOUNDS, age / 1e6)
            wanted[task, folder.rpartition("/")[2], bucket] += 1
    found = {
        (task, prio, bucket): many
        for task, by_prio in shape.tasks.items()
        for prio, row in by_prio.items()
        for bucket, many in enumerate(row)
        if many
    }
    assert found == dict(wanted)
    assert sum(shape.counts.values()) == len(rows)
    due = [age for age, _, _ in rows if age >= 0]
    assert (shape.oldest and NOW - shape.oldest[0]) == (max(due) if due else None)


@given(waiting, st.integers(-SPAN, SPAN))
@example([(0, "a", "high"), (1, "a", "medium"), (1, "a", "high")], 0)  # the oldest of one instant
def test_parts_add_up_and_outlive_a_file(rows: list[tuple[int, str, str]], later: int) -> None:
    whole, total, then = Shape(NOW), Shape(NOW), Shape(NOW + later)
    for folder, held in names(rows).items():
        part, again = Shape(NOW), Shape(NOW + later)
        whole.wait(folder, [name for name, _, _ in held])
        part.wait(folder, [name for name, _, _ in held])
        again.wait(folder, [name for name, _, _ in held])
        kept: Any = orjson.loads(orjson.dumps(part.kept()))
        assert Shape.recall(kept).plain() == part.plain()
        total.add(Shape.recall(kept))
        then.add(part if part.settled(folder, NOW + later) else again)
        if part.settled(folder, NOW + later):
            assert {**part.plain(), "at": ""} == {**again.plain(), "at": ""}
    assert total.plain() == whole.plain()
