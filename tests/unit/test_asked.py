"""Who asks waits for so many names and files, however long the queue is; what is told of it is true."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import Spool, layout, look
from spool.disk import Missing, RealDisk
from spool.names import DAY_US, PRIORITIES, Entry, id_from, new_id
from spool.shape import Shape
from spool.times import format_utc
from spool.turn import turn
from spool.why import FEW, Why

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = time.time_ns() // 1000
LIMIT, SLICE = 60, 20


class Counted(RealDisk):
    """Counts the names it has listed and the files it has opened."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.counts: Counter[str] = Counter()

    def names(self, path: str) -> list[str]:
        found = super().names(path)
        self.counts["names"] += len(found)
        return found

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        for found in super().slices(path, size):
            self.counts["names"] += len(found)
            yield found

    def read(self, path: str, limit: int) -> bytes:
        self.counts["reads"] += 1
        return super().read(path, limit)


def queue(place: Path, number: int) -> tuple[Spool, Entry]:
    """A spool in which so many tasks have been due for an hour; the last of them."""
    from spool.init import init

    init(str(place))
    client = Spool(place)
    client.close()
    client.disk = Counted(str(place))
    for n in range(number):
        at = NOW - 3_600_000_000 + n
        entry = Entry(time=at, id=id_from(at, n.to_bytes(10, "big")), task="t")
        path = place / layout.pending(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    own = place / layout.own_copy(entry.id)
    own.parent.mkdir(parents=True)
    doc = {"v": 1, "id": entry.id, "task": "t", "args": {}, "at": format_utc(entry.time)}
    own.write_text(json.dumps({**doc, "submitted_at": doc["at"]}))
    path.write_bytes(own.read_bytes())
    return client, entry


def counted_by_a_daemon(place: Path, number: int) -> None:
    shape = Shape(NOW)
    for folder in (place / "pending").glob("*/*"):
        shape.wait(
            f"pending/{folder.parent.name}/{folder.name}", [path.name for path in folder.iterdir()]
        )
    assert sum(shape.counts.values()) == number
    (place / "nodes" / "n.lock").touch()
    (place / layout.shape("n")).write_text(json.dumps(shape.plain()))


def ask(client: Spool, entry: Entry) -> tuple[dict[str, Any], Counter[str]]:
    """What is answered to status, shape and why, and what it cost."""
    client.disk.counts.clear()
    found = {"status": client.status(), "shape": client.shape()}
    found["why"] = Why(client.disk, client.path, NOW, format_utc).line(client.get(entry.id))
    return found, client.disk.counts


@pytest.mark.parametrize("known", [True, False], ids=["counted", "never counted"])
def test_asking_costs_the_same_however_many_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    monkeypatch.setattr(look, "MANY", LIMIT)
    monkeypatch.setattr(look, "SLICE", SLICE)
    costs = []
    for number in (2 * LIMIT, 10 * LIMIT):
        client, entry = queue(tmp_path / str(number), number)
        if known:
            counted_by_a_daemon(tmp_path / str(number), number)
        found, cost = ask(client, entry)
        costs.append(cost)
        status, shape = found["status"], found["shape"]
        assert status["complete"] is shape["complete"] is known
        if known:
            assert cost["names"] < LIMIT
            assert status["counts"]["pending/medium"] == sum(shape["tasks"]["t"]["medium"]) == number
            assert f"behind at most {number} medium (counted {shape['at']})" in found["why"]
        else:
            assert LIMIT < status["counts"]["pending/medium"] <= LIMIT + SLICE
            assert "behind more than" in found["why"]
    assert costs[0] == costs[1]
    assert costs[0]["names"] < 4 * (LIMIT + SLICE)


def test_whom_a_task_waits_for_is_told_by_one_look_at_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "spool"
    client, last = queue(place, 100)
    for end in ("done", "failed"):
        (place / end / "2026-11-21").mkdir(parents=True)
    pending = [path for path in (place / "pending").glob("*/*/*") if last.id not in path.name]
    for number, path in enumerate(pending):
        (place / layout.own_copy(path.name.split(",")[1])).touch()
        if number < 40:
            path.rename(place / ("done", "failed")[number == 7] / "2026-11-21" / path.name)
    ids = tuple(path.name.split(",")[1] for path in pending)
    told = Why(client.disk, client.path, NOW, format_utc)

    def why(after: tuple[str, ...]) -> str:
        client.disk.counts.clear()
        return told.line(replace(client.get(last.id), state="held", why="after", after=after))

    assert f"waits for {ids[7]} (failed) and 59 more" in why(ids)
    assert client.disk.counts["reads"] < 30
    assert client.disk.counts["names"] < 300  # a second one for what may be tried again
    assert "waits for" not in why(ids[8:40])
    gone = new_id()
    assert f"waits for {gone} (no longer known); " in why((*ids[8:40], gone))
    monkeypatch.setattr(Why, "_state", lambda *_: "done")  # in packs, and not all are looked for there
    packed = tuple(new_id() for _ in range(FEW + 1))
    assert "waits for" not in why((*ids[8:40], *packed[1:]))
    assert "waits for some of" in why((*ids[8:40], *packed))
    monkeypatch.setattr(look, "MANY", 50)
    monkeypatch.setattr(look, "SLICE", 20)
    assert "waits for some of 99 tasks; `spool release" in why(ids)


ages = st.tuples(
    st.integers(-2, 2).map(lambda n: n * 40_000_000_000), st.sampled_from(PRIORITIES), st.booleans()
)


@given(st.lists(ages, min_size=1, max_size=20))
def test_the_place_counted_by_names_is_the_place_in_the_order(rows: list[tuple[int, str, bool]]) -> None:
    now = NOW - NOW % DAY_US + DAY_US // 2
    entries = [
        Entry(
            time=now - age, id=id_from(now, bytes([n] * 10)), task="t", prio=prio, base=prio, front=front
        )
        for n, (age, prio, front) in enumerate(rows)
    ]
    why = Why(Held(map(layout.pending, entries)), "/nowhere", now, str)
    for mine in entries:
        if mine.time > now:
            continue
        ahead = Counter(e.prio for e in entries if e.time <= now and turn(e, now) < turn(mine, now))
        told = ", ".join(f"{ahead[prio]} {prio}" for prio in PRIORITIES if ahead[prio])
        assert why._behind(mine) == (f"behind {told}" if told else "")


class Held:
    """A disk that has these names and nothing else."""

    def __init__(self, paths: Any) -> None:
        self.paths = list(paths)

    def names(self, path: str) -> list[str]:
        found = {one[len(path) + 1 :].split("/")[0] for one in self.paths if one.startswith(f"{path}/")}
        if not found:
            raise Missing(2, "none", path)
        return list(found)

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        assert size
        if any(one.startswith(f"{path}/") for one in self.paths):
            yield self.names(path)


def test_a_task_that_was_moved_in_class_is_found_without_a_look_at_the_names(tmp_path: Path) -> None:
    client, entry = queue(tmp_path / "spool", 30)
    moved = Entry(time=entry.time, id=entry.id, task="t", prio="high", base="high", front=True)
    (tmp_path / "spool" / layout.pending(moved)).parent.mkdir()
    client.disk.move(layout.pending(entry), layout.pending(moved))
    client.disk.counts.clear()
    assert client.get(entry.id).path == layout.pending(moved)
    assert client.disk.counts["names"] == 0
