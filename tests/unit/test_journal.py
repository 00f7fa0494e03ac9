"""The journal is read whole: every node, packed days, filters, what comes while it is read."""

from __future__ import annotations

import gzip
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from spool import journal
from spool.command.main import main
from spool.init import init
from spool.journal import Filter
from spool.names import new_id
from spool.scene import past
from spool.times import format_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOON = parse_utc("2026-11-21T12:00:00Z")
HOUR = 3_600_000_000
DAY = 24 * HOUR


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "spool"
    init(str(place))
    return place


def line(at: int, **more: Any) -> dict[str, Any]:
    return {"at": format_utc(at), "event": "claim", "id": new_id(), "task": "mail.send", **more}


def put(root: Path, name: str, lines: list[dict[str, Any]], raw: bytes = b"") -> Path:
    path = root / "journal" / name
    path.parent.mkdir(exist_ok=True)
    data = raw + b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def test_lines_of_all_nodes_come_in_the_order_of_time(root: Path) -> None:
    one = [line(NOON), line(NOON + 2)]
    two = [line(NOON + 1), line(NOON + 3)]
    put(root, "a/2026-11-21.jsonl", one)
    put(root, "b/2026-11-21.jsonl", two)
    put(root, "a/2026-11-20.jsonl", [older := line(NOON - DAY)])
    assert list(journal.read(str(root), Filter())) == [older, one[0], two[0], one[1], two[1]]


def test_packed_days_are_read_before_what_came_after_them(root: Path) -> None:
    lines = [line(NOON + n) for n in range(4)]
    put(root, "a/2026-11-21.jsonl.gz", lines[:1])
    put(root, "a/2026-11-21.2.jsonl.gz", lines[1:2])
    put(root, "a/2026-11-21.10.jsonl.gz", lines[2:3])
    put(root, "a/2026-11-21.jsonl", lines[3:])
    assert list(journal.read(str(root), Filter())) == lines


def test_a_search_backwards_tells_all_it_has_read_and_how_far_that_is(root: Path) -> None:
    one = [line(NOON), line(NOON + 2)]
    two = [line(NOON + 1), line(NOON + 3)]
    put(root, "a/2026-11-21.jsonl", one)
    put(root, "b/2026-11-21.jsonl", two)
    hasty = past.search(str(root), Filter(), 200, -1)
    assert hasty == past.Found([two[1], one[1], two[0]], two[0]["at"])
    assert past.search(str(root), Filter(), 200, 60) == past.Found([*hasty.lines, one[0]], None)
    assert past.search(str(root), Filter(), 2, 60).lines == hasty.lines[:2]


def test_the_last_lines_are_read_from_the_end(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    day = [line(NOON + n) for n in range(40)]
    put(root, "a/2026-11-20.jsonl.gz", [line(NOON - DAY)])
    put(root, "a/2026-11-21.jsonl", day[::2])
    put(root, "b/2026-11-21.jsonl", day[1::2])
    monkeypatch.setattr(past, "BLOCK", 100)
    monkeypatch.setattr(gzip, "open", None)  # nobody needs the day before
    for many in (1, 2, 7, 40):
        assert main(["--spool", str(root), "history", "--json", "-n", str(many)]) == 0
        assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == day[-many:]


@pytest.mark.parametrize("buffer", [64, 1 << 20])
def test_what_comes_while_the_last_lines_are_read_is_told_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    monkeypatch.setattr(journal, "BUFFER", buffer)
    first, torn, later = (line(NOON + n) for n in range(3))
    whole = json.dumps(torn).encode()
    path = put(root, "a/2026-11-21.jsonl", [first])
    with path.open("ab") as file:
        file.write(whole[:20])
    ends = journal.ends(str(root), Filter())
    with path.open("ab") as file:
        file.write(whole[20:] + b"\n")
    put(root, "b/2026-11-21.jsonl", [later])
    assert past.search(str(root), Filter(), 9, 60, ends).lines == [first]
    found = journal.follow(str(root), Filter(), ends)
    assert [next(found) for _ in range(2)] == [torn, later]


def test_torn_and_damaged_lines_cost_only_themselves(root: Path) -> None:
    good = [line(NOON)]
    put(root, "a/2026-11-21.jsonl", good, raw=b'{"at": "2026\n\n[1]\n')
    path = put(root, "a/2026-11-20.jsonl.gz", [line(NOON - DAY)])
    path.write_bytes(path.read_bytes()[:-4])  # its last bytes are gone, its line is not
    put(root, "a/2026-11-19.jsonl.gz", []).write_bytes(b"no gzip")
    assert list(journal.read(str(root), Filter()))[-1:] == good


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ({"task": "mail.send"}, {"task": "mail.send"}),
        ({"task": "mail.*"}, {"task": "mail.other"}),
        ({"state": "failed"}, {"to": "failed"}),
        ({"event": "cancel"}, {"event": "cancel"}),
        ({"parent": "shop"}, {"parent": "shop"}),
        ({"key": 'a "b"'}, {"key": 'a "b"'}),
        ({"error": "abcd"}, {"error": "abcd1234"}),
        ({"writer": 7}, {"uid": 7}),
        ({"writer": 7}, {"by": {"uid": 7, "why": "x"}}),
        ({"writer": 7}, {"reason": {"uid": 7, "text": "x"}}),
        ({"since": NOON}, {"at": format_utc(NOON)}),
        ({"until": NOON - 1}, {"at": format_utc(NOON - 2)}),
        ({"ids": frozenset(["x"])}, {"id": "x"}),
    ],
)
def test_each_filter_keeps_what_it_names_and_nothing_else(
    root: Path, wanted: dict[str, Any], fields: dict[str, Any]
) -> None:
    other = line(NOON - 1, task="order", to="done", parent="none", error="ffff", uid=77, key="a")
    hit = {**line(NOON - 1, task="other"), **fields}
    put(root, "a/2026-11-21.jsonl", [other, hit])
    assert list(journal.read(str(root), Filter(**wanted))) == [hit]


@pytest.mark.parametrize("name", ["task", "parent", "key", "error", "node"])
def test_a_filter_that_is_no_utf_8_keeps_nothing(root: Path, name: str) -> None:
    put(root, "a/2026-11-21.jsonl", [line(NOON, **{name: "\\xff"})])
    assert list(journal.read(str(root), Filter(**{name: "\udcff"}))) == []


def test_the_load_is_told_to_whoever_asks_for_it_by_name(root: Path) -> None:
    lines = [line(NOON), line(NOON + 1, event="load", load=1.5)]
    put(root, "a/2026-11-21.jsonl", lines)
    assert list(journal.read(str(root), Filter())) == lines[:1]
    assert list(journal.read(str(root), Filter(event="load"))) == lines[1:]


def test_nothing_is_missed_or_told_twice_between_reading_and_following(root: Path) -> None:
    first, torn, later, other = (line(NOON + n) for n in range(4))
    path = put(root, "a/2026-11-21.jsonl", [first])
    whole = json.dumps(torn).encode()
    with path.open("ab") as file:
        file.write(whole[:20])  # a writer in the middle of its line
    seen: dict[str, int] = {}
    assert list(journal.read(str(root), Filter(), seen)) == [first]
    found = journal.follow(str(root), Filter(), seen)

    def write() -> None:
        with path.open("ab") as file:
            file.write(whole[20:] + b"\n" + json.dumps(later).encode() + b"\n")
        put(root, "b/2026-11-22.jsonl", [other])

    threading.Timer(0.05, write).start()
    assert [next(found) for _ in range(3)] == [torn, later, other]


def test_the_command_prints_lines_for_people_and_for_programs(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    bad = line(NOON, event="cancel", to="cancelled", by={"uid": 3, "key": "zoe@x", "why": "\x1b[31mred"})
    put(root, "a/2026-11-21.jsonl", [line(NOON - 1), bad])
    assert main(["--spool", str(root), "history", "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert "cancelled" in shown
    assert "by uid 3, key zoe@x: \\x1b[31mred" in shown
    assert main(["--spool", str(root), "history", "--event", "cancel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == bad
    (root / "spool.toml").write_text('timezone = "Etc/GMT+12"\n')
    for hour, told in ((0, 1), (1, 2)):  # not what $TZ says
        assert main(["--spool", str(root), "history", "--until", f"2026-11-21 {hour:02}:00"]) == 0
        assert capsys.readouterr().out.count("\n") == told
    assert main(["--spool", str(root), "history", "--since", "bogus"]) == 65
    assert main(["--spool", str(root), "history", "--state", "bogus"]) == 64
    assert main(["--spool", str(root), "history", "--event", "bogus"]) == 64
    assert "one of submit, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ([], ["claim b", "claim a"]),  # one of them runs
        ([("succeed", "b", 1)], ["claim b", "succeed b"]),
        ([("fail", "b", 1), ("claim", "a", 2)], ["claim b", "fail b", "claim a"]),
        ([("fail", "c", 1)], ["claim b", "claim a", "fail c"]),  # by who found it ended
        ([("return", "c", 1), ("succeed", "b", 1)], ["claim b", "claim a", "return c", "succeed b"]),
    ],
)
def test_a_claim_that_another_node_was_faster_with_is_not_shown(
    root: Path, capsys: pytest.CaptureFixture[str], more: list[tuple[str, str, int]], shown: list[str]
) -> None:
    task_id = new_id()
    for at, (event, node, attempt) in enumerate([("claim", "b", 1), ("claim", "a", 1), *more]):
        one = line(NOON + at, id=task_id, event=event, node=node, attempt=attempt, told=f"{event} {node}")
        put(root, f"{at}/2026-11-21.jsonl", [one])
    assert main(["--spool", str(root), "history", task_id, "--json"]) == 0
    assert capsys.readouterr().out.count("\n") == 2 + len(more)
    assert main(["--spool", str(root), "history", task_id]) == 0
    assert [text.rpartition("told ")[2] for text in capsys.readouterr().out.splitlines()] == shown


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_line_or_no_file_of_ours_ends_no_reading(
    root: Path, make: Callable[[Path], None]
) -> None:
    odd, good = line(NOON, by=7, reason=[]), line(NOON + 1, by={"uid": 3})
    put(root, "a/2026-11-21.jsonl", [odd, {**odd, "id": ["x"]}, good])
    for name in ("2026-11-20.jsonl", "2026-11-22.jsonl", "2026-11-20.jsonl.gz", "2026-11-21.2.jsonl.gz"):
        make(root / "journal" / "a" / name)
    wanted = Filter(ids=frozenset((odd["id"], good["id"])))
    assert list(journal.read(str(root), wanted)) == [odd, good]
    assert list(journal.read(str(root), Filter(writer=3))) == [good]
    assert past.search(str(root), wanted, 10, 10.0).lines == [good, odd]
    seen = journal.ends(str(root), wanted)
    put(root, "b/2026-11-22.jsonl", [later := line(NOON + 2, id=good["id"])])
    assert next(journal.follow(str(root), wanted, seen)) == later
