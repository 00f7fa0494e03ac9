"""Who asks for the take-in of a damaged task gets it, or an answer that costs little."""

from __future__ import annotations

import os
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING

import orjson
import pytest

from spool.names import DAY_US, LATEST, id_from
from spool.times import format_utc, parse_utc
from spoold.core.values import Now
from spoold.sources import takeins
from spoold.sources.takeins import BLOCK, TakeIns

if TYPE_CHECKING:
    from pathlib import Path

NOON = parse_utc("2026-11-21T12:00:00Z")
MANY = 3000  # tasks, each of 600 bytes or so


def ident(at: int) -> str:
    return id_from(at, bytes(10))


def lines(at: int, parent: str = "shop") -> bytes:
    """Of a task that was taken in, and of what became of it then."""
    known = {"at": format_utc(at), "id": ident(at), "reason": "x" * 100, "parent": parent}
    rows = ({"from": "new", "to": "pending"}, {"from": "pending"}, {"from": "running"})
    return b"".join(orjson.dumps(known | row) + b"\n" for row in rows)


def put(root: Path, name: str, data: bytes) -> None:
    path = root / "journal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def journal(tmp_path: Path) -> TakeIns:
    put(tmp_path, "a/2026-11-21.jsonl", b"".join(lines(NOON + n * 1000) for n in range(MANY)))
    put(tmp_path, "b/2026-11-21.jsonl", lines(NOON - 1000, "other"))
    put(tmp_path, "c/2026-11-22.jsonl", lines(NOON + DAY_US // 2, "next"))
    return TakeIns(str(tmp_path), "a")


def test_each_task_is_found_near_its_time(journal: TakeIns) -> None:
    for n in range(0, MANY, 7):
        line = journal.find(ident(at := NOON + n * 1000), Now(n, n))
        assert (line["at"], line["from"]) == (format_utc(at), "new")
        assert takeins.A_ROUND - journal.left <= 5


def test_it_may_be_another_node_that_took_it_in_and_the_day_after(
    journal: TakeIns, tmp_path: Path
) -> None:
    assert journal.find(ident(NOON - 1000), Now(0, 0))["parent"] == "other"
    late = parse_utc("2026-11-21T23:59:59.999Z")
    put(tmp_path, "b/2026-11-22.jsonl", lines(late, "late"))
    assert journal.find(ident(late), Now(0, 0))["parent"] == "late"


@pytest.mark.parametrize("at", [NOON + 1, NOON - DAY_US, NOON + 9 * DAY_US, LATEST - 1])
def test_what_is_not_there_is_not_found(journal: TakeIns, at: int) -> None:
    assert journal.find(id_from(at, b"another id"), Now(0, 0)) == {}


class Counted(BufferedReader):
    """A file of which is known how much was read."""

    total = 0

    def __init__(self, path: str, _: str) -> None:
        super().__init__(FileIO(path))
        Counted.total += BLOCK  # for opening it

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        Counted.total += len(data)
        return data


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(takeins, "open", Counted, raising=False)
    monkeypatch.setattr(Counted, "total", 0)
    return Counted


def test_a_round_reads_only_so_much(
    journal: TakeIns, monkeypatch: pytest.MonkeyPatch, counted: type[Counted]
) -> None:
    monkeypatch.setattr(takeins, "A_ROUND", 40)
    found = [bool(journal.find(ident(NOON + n * 1000), Now(0, 0))) for n in range(99)]
    assert found == [True] * 20 + [False] * 79  # to open the file, and a block
    assert counted.total == 40 * BLOCK
    assert journal.find(ident(NOON), Now(1, 1))  # in the next round it reads again


def test_a_file_is_not_read_to_its_end(journal: TakeIns, tmp_path: Path, counted: type[Counted]) -> None:
    os.truncate(tmp_path / "journal/a/2026-11-21.jsonl", 1 << 40)  # nor to that of a line
    assert journal.find(id_from(NOON, b"another id"), Now(0, 0)) == {}
    assert counted.total <= (takeins.OF_A_FILE + 9) * BLOCK
