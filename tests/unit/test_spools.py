"""Several spools used as one: where a task goes, and that it is found there again."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from spool import Invalid, NoSuchTask, layout
from spool.init import init
from spool.names import event_name, new_id
from spool.spools import Spools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in "abc"]
    for root in found:
        init(str(root))
    return found


@pytest.fixture
def three(roots: list[Path]) -> Iterator[Spools]:
    with Spools(roots) as made:
        yield made


def lying(roots: list[Path]) -> list[int]:
    return [len(list((root / layout.INCOMING).iterdir())) for root in roots]


def places(spools: Spools, ids: list[str]) -> dict[str, str]:
    return {task_id: spools.find(task_id).path for task_id in ids}


def test_tasks_are_spread_and_each_is_in_one_spool(three: Spools, roots: list[Path]) -> None:
    for _ in range(60):
        three.submit("a", {"x": 1})
    assert sum(lying(roots)) == 60
    assert min(lying(roots)) > 5


def test_the_same_id_goes_to_the_same_spool_whoever_sends_it_again(roots: list[Path]) -> None:
    task_id = new_id()
    for by in ("hash", "waiting"):
        with Spools(roots, by=by) as spools:  # type: ignore[arg-type]
            spools.submit("a", id=task_id)
            spools.submit_many([{"task": "a", "id": task_id}])
    assert sorted(lying(roots)) == [0, 0, 4]


def test_tasks_of_one_key_meet_in_one_spool(three: Spools, roots: list[Path]) -> None:
    for _ in range(9):
        three.submit("a", key="report of today")
    assert sorted(lying(roots)) == [0, 0, 9]


def test_a_task_goes_where_the_one_is_that_it_waits_for(three: Spools) -> None:
    first = [three.submit("a") for _ in range(9)]
    then = [three.submit("b", after=[one]) for one in first]
    assert [three.find(one).path for one in first] == [three.find(one).path for one in then]
    with pytest.raises(NoSuchTask):
        three.submit("b", after=[new_id()])


def test_the_least_waiting_gets_the_next(roots: list[Path]) -> None:
    with Spools(roots, by="waiting") as spools:
        for _ in range(6):
            spools.spools[0].submit("a")
        for _ in range(12):
            spools.submit("b")
    assert lying(roots) == [6, 6, 6]


def test_many_keep_their_order_and_a_spool_more_takes_its_own_share_alone(
    three: Spools, roots: list[Path]
) -> None:
    ids = three.submit_many([{"task": "a", "args": {"n": n}} for n in range(30)])
    assert len(set(ids)) == 30
    before = {task_id: three._hashed(task_id).path for task_id in ids}
    with Spools(roots[:2]) as two:
        after = {task_id: two._hashed(task_id).path for task_id in ids}
    moved = {task_id for task_id in ids if before[task_id] != after[task_id]}
    assert {before[task_id] for task_id in moved} == {str(roots[2])}


def test_events_of_all_are_read_and_deleted_when_they_have_been_handled(
    three: Spools, roots: list[Path]
) -> None:
    for number, root in enumerate(roots * 2):
        task_id = new_id()
        place = root / layout.OUTBOX / "shop"
        place.mkdir(parents=True, exist_ok=True)
        name = event_name(1_790_000_000_000_000 + number, task_id, "a", "done")
        record = {"id": task_id, "event": "done", "task": "a", "attempt": 1}
        (place / name).write_text(json.dumps(record))
    seen = Counter(event.id for event in three.outbox("shop", timeout=0))
    assert len(seen) == 6
    assert set(seen.values()) == {1}
    assert list(three.outbox("shop", follow=False)) == []


def test_no_spool_or_another_way_to_choose_is_refused(roots: list[Path]) -> None:
    with pytest.raises(Invalid, match="at least one"):
        Spools([])
    with pytest.raises(Invalid, match="hash or waiting"):
        Spools(roots, by="chance")  # type: ignore[arg-type]
    with Spools(roots) as spools, pytest.raises(NoSuchTask):
        spools.wait(new_id())
