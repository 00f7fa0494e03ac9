"""What is shown of a spool, from lines of the journal, names and status files."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.command.render import width_of
from spool.disk import RealDisk
from spool.failures import Group
from spool.init import init
from spool.names import Entry, new_id
from spool.scene import lists
from spool.scene.flow import BOUNDS, TIERS, Flow, quantile, total
from spool.scene.moment import Moment
from spool.scene.tail import Tail
from spool.scene.words import bar, seconds, short, spark
from spool.times import DAY, HOUR, MINUTE, SECOND, format_utc
from spool.top.head import LINES, head
from spool.top.tables import GAP, VIEWS, table, widths
from spool.views import listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_795_000_000 * SECOND
MIN = TIERS[1][0]


def entry(at: int = NOW, **more: Any) -> Entry:
    return Entry(time=at, id=more.pop("id", new_id(at)), task=more.pop("task", "a.b"), **more)


def line(event: str, before: str, after: str, at: int, one: Entry) -> dict[str, Any]:
    paths = {"pending": layout.pending, "held": layout.held}
    path = paths[after](one) if after in paths else layout.ended(after, at, one)
    return {
        "at": format_utc(at), "event": event, "id": one.id, "task": one.task, "from": before, "to": after,
        "entry": layout.running("n", one) if after == "running" else path, "node": "n",
    }  # fmt: skip


# Flow.


def test_a_life_is_counted_with_its_wait_and_its_run() -> None:
    flow, one = Flow(), entry()
    flow.add(line("submit", "new", "pending", NOW, one))
    flow.add(line("claim", "pending", "running", NOW + 2 * SECOND, one))
    flow.add(line("succeed", "running", "done", NOW + 5 * SECOND, one))
    found = total(flow.last(MIN, 3, NOW + 5 * SECOND))
    assert found.counts == {"taken": 1, "started": 1, "done": 1}
    assert quantile(found.waits, 0.5) == pytest.approx(2, rel=0.5)
    assert quantile(found.runs, 0.5) == pytest.approx(3, rel=0.5)


def test_a_deadline_is_met_or_missed_by_the_entry_s_own_word() -> None:
    flow = Flow()
    for late in (-1, 1):
        one = entry(deadline=NOW)
        flow.add(line("claim", "pending", "running", NOW - MINUTE, one))
        flow.add(line("succeed", "running", "done", NOW + late * SECOND, one))
    found = total(flow.last(MIN, 5, NOW))
    assert (found.counts["met"], found.counts["late"], sum(found.lates)) == (1, 1, 1)
    assert quantile(found.lates, 0.5) == pytest.approx(1, rel=0.5)


def test_the_load_of_a_stretch_is_the_highest_each_node_has_told() -> None:
    flow = Flow()
    for at, node, load in ((0, "a", 3.5), (1, "a", 1), (2, "b", 0.25), (3, "b", "much"), (4, "b", None)):
        flow.add({"at": format_utc(NOW + at * SECOND), "event": "load", "load": load, "node": node})
    found = total(flow.last(MIN, 5, NOW))
    assert (found.loads, found.counts) == ({"a": 3.5, "b": 0.25}, {})


def test_failures_and_failed_tasks_are_told_apart() -> None:
    flow, one = Flow(), entry()
    flow.add(line("fail", "running", "pending", NOW, one))
    flow.add(line("give_up", "running", "failed", NOW, one))
    counts = total(flow.last(MIN, 1, NOW)).counts
    assert counts == {"failures": 2, "failed": 1}


def test_what_is_no_line_counts_as_nothing() -> None:
    flow = Flow()
    for bad in ({}, {"at": 3}, {"at": "soon"}, {"at": format_utc(NOW), "event": "claim", "entry": "x"}):
        flow.add(bad)
    assert total(flow.last(MIN, 5, NOW)).counts == {"started": 1}


def test_buckets_are_bounded_and_the_oldest_go() -> None:
    flow = Flow()
    width, kept = TIERS[0]
    for step in range(2 * kept):
        flow.add(line("submit", "new", "pending", NOW + step * width, entry()))
    assert len(flow.tiers[width]) == kept
    flow.add(line("submit", "new", "pending", NOW, entry()))  # a day that is read later
    assert len(flow.tiers[width]) == kept
    assert min(flow.tiers[width]) > NOW


def test_the_gate_is_shut_from_one_line_to_the_next() -> None:
    flow = Flow()
    for at, is_open in ((NOW, False), (NOW + MINUTE, True), (NOW + HOUR, False)):
        flow.add({"at": format_utc(at), "event": "gate", "open": is_open, "node": "n"})
    assert flow.shut(NOW - DAY, NOW + 2 * HOUR) == [(NOW, NOW + MINUTE), (NOW + HOUR, NOW + 2 * HOUR)]
    assert flow.shut(NOW + 30 * SECOND, NOW + HOUR)[0] == (NOW + 30 * SECOND, NOW + MINUTE)


@pytest.mark.parametrize("again", [None, True, False])
def test_the_gate_of_a_node_that_died_is_shut_as_long_as_it_told_its_load(again: bool | None) -> None:
    flow = Flow()
    flow.add({"at": format_utc(NOW), "event": "gate", "open": False, "node": "n"})
    for minute in (*range(10), *range(120, 130)):  # died, and served again later
        flow.add({"at": format_utc(NOW + minute * MINUTE), "event": "load", "load": 1, "node": "n"})
    later = NOW + 125 * MINUTE
    if again is not None:
        flow.add({"at": format_utc(later), "event": "gate", "open": again, "node": "n"})
    (start, end), *more = flow.shut(NOW - DAY, NOW + 130 * MINUTE)
    assert (start, end // MINUTE) == (NOW, NOW // MINUTE + 11)
    assert more == ([(later, NOW + 130 * MINUTE)] if again is False else [])


def test_of_a_gate_that_was_shut_days_ago_the_hours_tell_how_long_its_node_served() -> None:
    flow, began = Flow(), NOW - 3 * DAY
    flow.add({"at": format_utc(began), "event": "gate", "open": False, "node": "n"})
    for at in range(began, began + 10 * HOUR, MINUTE):
        flow.add({"at": format_utc(at), "event": "load", "load": 1, "node": "n"})
    last = (began + 10 * HOUR - MINUTE) // HOUR * HOUR
    assert flow.shut(NOW - 4 * DAY, NOW) == [(began, last + 2 * HOUR)]


def test_a_quantile_lies_in_the_bucket_of_its_value() -> None:
    counts = [0] * (len(BOUNDS) + 1)
    assert quantile(counts, 0.5) is None
    counts[4], counts[9] = 90, 10
    assert BOUNDS[3] <= (quantile(counts, 0.5) or 0) <= BOUNDS[4]
    assert BOUNDS[8] <= (quantile(counts, 0.95) or 0) <= BOUNDS[9]


# Tail.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init(str(tmp_path / "s"))
    (tmp_path / "s/journal/n").mkdir()
    return tmp_path / "s"


def write(path: Path, *lines: dict[str, Any], packed: bool = False) -> None:
    data = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    with gzip.open(path, "wb") if packed else path.open("ab") as file:
        file.write(data)


def taken(flow: Flow) -> int:
    return total(flow.last(HOUR, 300, NOW)).counts.get("taken", 0)


def test_a_tail_reads_packed_days_what_is_there_and_what_comes(root: Path) -> None:
    flow = Flow()
    tail = Tail(str(root), flow, back=7 * DAY)
    today, before = layout.journal("n", NOW), layout.journal("n", NOW - 3 * DAY)
    write(root / f"{before}.gz", line("submit", "new", "pending", NOW - 3 * DAY, entry()), packed=True)
    write(root / today, line("submit", "new", "pending", NOW, entry()))
    with (root / today).open("ab") as file:
        file.write(b'{"at":"torn')
    while tail.step(NOW):
        pass
    assert taken(flow) == 2
    with (root / today).open("ab") as file:
        file.write(b'"}\n')
    write(root / today, line("submit", "new", "pending", NOW, entry()))
    tail.step(NOW)
    assert taken(flow) == 3


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_tail_goes_on_where_a_journal_cannot_be_read_and_names_it(
    root: Path, make: Callable[[Path], None]
) -> None:
    flow = Flow()
    tail = Tail(str(root), flow, back=7 * DAY)
    today, before = layout.journal("n", NOW), layout.journal("n", NOW - 3 * DAY)
    for odd in (root / today, root / f"{before}.gz"):
        make(odd)
    (root / "journal/other").mkdir()
    write(root / layout.journal("other", NOW), line("submit", "new", "pending", NOW, entry()))
    while tail.step(NOW):
        pass
    assert taken(flow) == 1
    assert tail.trouble.count("cannot be read: not a regular file") == 2
    assert tail.trouble.startswith(today)
    (root / today).rename(root / "journal/gone")
    tail.step(NOW)
    assert today not in tail.trouble
    shutil.rmtree(root / "journal")
    (root / "journal").symlink_to("journal")  # as where the disk says EIO
    assert not tail.step(NOW)
    assert tail.trouble.startswith("journal cannot be read")


def test_a_tail_can_do_with_the_end_of_a_long_file(root: Path) -> None:
    flow = Flow()
    write(root / layout.journal("n", NOW), *[line("submit", "new", "pending", NOW, entry())] * 1000)
    tail = Tail(str(root), flow, back=DAY, most=10_000)
    while tail.step(NOW):
        pass
    assert 0 < taken(flow) < 60


# Lists.


def place(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("")


def test_the_list_of_what_waits_is_the_order_of_the_queue(root: Path) -> None:
    rows = [
        entry(NOW - 5 * SECOND, prio="low"),
        entry(NOW - 5 * SECOND, prio="high"),
        entry(NOW - 4 * SECOND, prio="high", front=True),
        entry(NOW - 3 * SECOND, prio="high", front=True),
        entry(NOW + 9 * DAY, prio="high"),
        entry(NOW + DAY, prio="low"),
        entry(NOW + DAY, prio="low", front=True),
        entry(NOW + DAY, prio="high"),
        entry(NOW + SECOND, prio="high", front=True),
        entry(NOW + 2 * SECOND, prio="high", front=True),
        entry(NOW + 2 * SECOND, prio="high", front=True),
    ]
    rows[-2:] = sorted(rows[-2:], key=lambda one: one.id)
    for one in rows:
        place(root, layout.pending(one))
    want = [rows[n].id for n in (3, 2, 1, 0, 8, 10, 9, 7, 6, 5, 4)]
    disk = RealDisk(str(root))
    for many in range(1, len(rows) + 1):
        assert [one.id for one in lists.waiting(disk, NOW, many)] == want[:many]


def test_the_list_of_what_ended_begins_with_the_latest(root: Path) -> None:
    rows = [entry(NOW + n * MINUTE) for n in range(10)]
    for one in rows:
        place(root, layout.ended("done", one.time, one))
    found = lists.newest(RealDisk(str(root)), "done", 3)
    assert [one.id for one in found] == [one.id for one in rows[:-4:-1]]


def test_a_filter_is_a_beginning_a_pattern_or_a_part_of_an_id(root: Path) -> None:
    one, two = entry(task="mail.send"), entry(task="thumb.make")
    for each in (one, two):
        place(root, layout.pending(each))
    disk = RealDisk(str(root))
    for wanted in ("mail", "*.send", one.id[-8:]):
        assert [found.id for found in lists.waiting(disk, NOW, 9, wanted)] == [one.id]
    assert lists.waiting(disk, NOW, 9, "nothing") == []


# Words, head, tables.


def test_words() -> None:
    assert [short(n) for n in (0, 999, 9999, 12_345, 1_234_567)] == ["0", "999", "9999", "12k", "1.2M"]
    assert [short(n) for n in (9999.5, 999_499, 999_500, 9_949_999, 9_950_000, 999_500_000)] == [
        "10k", "999k", "1.0M", "9.9M", "10M", "1.0G",
    ]  # fmt: skip
    assert [seconds(s) for s in (None, 0.0025, 0.25, 2.5, 125, 7500)] == [
        "-", "2.5 ms", "250 ms", "2.5 s", "2:05", "2 h 5 min"
    ]  # fmt: skip
    assert spark([0, 1, 8]) == " ▁█"
    assert (bar(0, 4), bar(0.5, 4), bar(1, 4), bar(7, 2)) == ("    ", "██  ", "████", "██")


def moment(**node: Any) -> Moment:
    status = {
        "spool": "/srv/jobs", "alive": True, "pauses": [], "outboxes": {"shop": 3}, "counted_at": None, "complete": True,
        "counts": {f"pending/{p}": 1_234_567 for p in ("high", "medium", "low")}
        | dict.fromkeys(("held", "running", "done", "failed", "cancelled", "incoming"), 1_234_567),
        "nodes": {"host-a": {"node": "host-a", "alive": True, "state": "running", "pid": 1, **node}},
    }  # fmt: skip
    group = Group(fingerprint="f" * 16, task="a.b", type="exit 1", message="no\x1b[2J", place=(),
                  first=NOW, last=NOW, count=2)  # fmt: skip
    return Moment(now=NOW, status=status, groups=[group], usual={"a.b": 10.0})


RUN = {"id": new_id(NOW), "task": "a.b", "attempt": 2, "class": "high", "handler": "a.*", "parent": "p",
       "started_at": format_utc(NOW - 5 * SECOND), "progress": None, "ending": None}  # fmt: skip


@pytest.mark.parametrize("width", [80, 160])
def test_the_head_has_its_lines_and_its_numbers_fit(width: int) -> None:
    lines = head(moment(), Flow(), width, lambda _: "12:00:00")
    assert len(lines) == LINES
    told = ["".join(text for text, _ in one) for one in lines]
    assert len(told[0]) <= width
    assert len(told[1].rstrip()) <= width
    assert "1.2M" in told[1] if width == 80 else "1,234,567" in told[1]


def test_the_head_says_what_holds_the_queue() -> None:
    shut = {
        "gate": {"open": False, "why": "load 3.1", "since": format_utc(NOW), "look_at": None},
        "held_back": [
            {"why": "load 3.1", "ready": 4},
            {"why": "full", "ready": 2},
            {"why": "full", "ready": 3},
        ],
    }
    told = ["".join(text for text, _ in one) for one in head(moment(**shut), Flow(), 200, str)]
    assert "4 ready, held since" in told[3]
    assert "5 ready: full" in told[3]
    three = moment(**shut)
    three.status["nodes"] |= {name: three.status["nodes"]["host-a"] | {"node": name} for name in "bc"}
    told = ["".join(text for text, _ in one) for one in head(three, Flow(), 200, str)]
    assert "15 ready" not in told[3]


def test_the_head_says_what_waits_for_a_full_outbox() -> None:
    full = moment(next=None, full_outboxes=["slow"], held_back=[])
    told = ["".join(text for text, _ in one) for one in head(full, Flow(), 200, str)]
    assert "nothing but what waits until its parent has read" in told[2]
    assert "held up tasks of parent slow: outbox slow is full" in told[3]


def test_where_no_daemon_tells_the_head_and_the_views_say_that_and_not_that_nothing_waits() -> None:
    none = moment(alive=False, written_at=format_utc(NOW - 3 * MINUTE), running=[RUN])
    told = ["".join(text for text, _ in one) for one in head(none, Flow(), 80, str)]
    assert "no spoold serves this spool, last seen 3 min ago" in told[0]
    assert "no daemon tells" in told[2]
    assert "1,234,567 in incoming/" in told[3]
    assert table("running", none, [], "").empty == "1,234,567 in running/, no spoold tells of them"
    assert table("waiting", none, [], "").empty == "nothing waits but what is in incoming/"
    assert table("waiting", none, [], "a").empty == "nothing waits that is asked for"
    none.status["counts"] = dict.fromkeys(none.status["counts"], 0)
    assert [table(v, none, [], "").empty for v in ("running", "waiting")] == [
        "nothing runs",
        "nothing waits",
    ]
    assert "nothing waits" in head(moment(next=None), Flow(), 80, str)[2][1][0]


def test_what_holds_the_next_task_comes_first_and_is_wrapped_where_there_is_room() -> None:
    pause = {"kind": "pause", "task": "z.*", "node": None, "who": "ann", "uid": 1, "why": "upgrade " * 9}
    shut = {
        "gate": {"open": False, "why": f"load {'of the machine ' * 9}", "since": None, "look_at": None},
        "held_back": [{"why": "full", "ready": 2}],
    }
    held = moment(**shut)
    held.status["pauses"] = [{**pause, "who": None}, {**pause, "task": None, "kind": "drain"}]

    def told(most: int) -> list[str]:
        lines = head(held, Flow(), 80, str, most=most)
        shown = ["".join(text for text, _ in line) for line in lines][3 : len(lines) - 3]
        assert len(shown) <= most
        assert max(map(width_of, shown)) <= 80
        return shown

    [one] = told(1)
    assert one.startswith("held up drained by ann: upgrade")
    assert one.endswith("…")
    text = re.sub(r"\s+", " ", "".join(told(9)))
    places = [
        text.index(said) for said in ("drained by", "load of the", "2 ready: full", "paused z.* by uid 1")
    ]
    assert places == sorted(places)
    held.status["pauses"][1]["why"] = "漢字" * 60
    assert "".join(told(9)).count("漢") == 60


def test_a_bar_is_what_the_task_says_else_what_its_name_takes() -> None:
    said = {**RUN, "id": new_id(NOW), "progress": {"percent": 40, "note": "page 4"}}
    rows = table("running", moment(running=[RUN, said]), [], "").rows
    cells = {
        row.key: dict(zip(table("running", moment(), [], "").heads, row.cells, strict=True))
        for row in rows
    }
    assert cells[said["id"]]["PROGRESS"][0].endswith("40%")
    assert cells[said["id"]]["NOTE"][0] == "page 4"
    assert cells[RUN["id"]]["PROGRESS"] == (bar(0.5, 9), "dim")
    assert cells[RUN["id"]]["USUAL"][0] == "10.0 s"


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_a_cell_for_each_column(view: str) -> None:
    one = entry(fails=1, deadline=NOW - SECOND)
    found = table(view, moment(running=[RUN]), [listed(layout.pending(one), one)], "")
    assert found.rows
    assert all(len(row.cells) == len(found.heads) for row in found.rows)


def test_a_long_name_gives_way_to_the_columns_beside_it() -> None:
    one = entry(at=NOW + HOUR, task="n" * 64, deadline=NOW + 2 * HOUR, prio="medium")
    waits = replace(listed(layout.pending(one), one), why="waits for a slot: 漢字")
    found = table("waiting", moment(), [waits], "")
    wide = dict(zip(found.heads, widths(found, 78), strict=True))
    assert sum(wide.values()) + GAP * len(wide) == 78
    assert wide["TASK"] == 16
    assert (wide["ID"], wide["CLASS"], wide["WHEN"], wide["DEADLINE"]) == (9, 6, 6, 8)
    wide = dict(zip(found.heads, widths(found, 200), strict=True))
    assert (wide["TASK"], wide["WHY"]) == (64, 22)
    assert all(width > 0 for width in widths(found, 1))


def test_a_run_that_is_filtered_out_is_not_shown() -> None:
    assert not table("running", moment(running=[RUN]), [], "other").rows
