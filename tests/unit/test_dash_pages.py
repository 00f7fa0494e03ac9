"""What the pages of `spool dash` tell: schedules and their days, axes, and nothing a long queue can delay."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from spool import Spool, layout, look
from spool.command.main import main
from spool.dash import flows, pages, plots
from spool.dash.plots import Frame
from spool.dash.source import Source
from spool.disk import RealDisk
from spool.failures import Group, encode
from spool.init import init
from spool.names import DAY_US, new_id
from spool.scene import lists, recurring
from spool.scene.words import short
from spool.times import HOUR, format_utc, parse_utc
from spool.why import Why
from tests.e2e.live import until
from tests.unit.test_asked import counted_by_a_daemon, queue
from tests.unit.test_client import put_record, take_in
from tests.unit.test_dash import PAGES, Site, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_795_262_400_000_000  # 2026-11-21 12:00 UTC, a Saturday
SCHEDULES = """
[recurring.nightly]
every = "30 2 * * *"
timezone = "Europe/Rome"
task = "report.day"
[recurring.rates]
every = "0 9,17 * * MON-FRI"
timezone = "UTC"
task = "rates.get"
[recurring.sweep]
every = "5m"
task = "sweep.<b>"
""".replace("<b>", "all")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init(str(tmp_path / "s"))
    return tmp_path / "s"


def page(site: Site, path: str) -> str:
    """A page once all its lists are made."""

    def look() -> str | None:
        found = site.ask(path)
        assert found.status == 200
        return None if "being read" in found.body else found.body

    return until(look, "its lists are made")


def text(site: Site, path: str) -> str:
    """The same without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page(site, path)))


def test_the_schedule_page_shows_what_recurs_and_when(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    (root / "spool.toml").write_text(SCHEDULES)
    shown = text(Site(root), "/schedule")
    for wanted in (
        "nightly",
        "30 2 * * *",
        "Europe/Rome",
        "report.day",
        "in ",
        "09:00, 17:00",
        "not yet",
    ):
        assert wanted in shown
    assert "Too often to be spelled out here: sweep." in shown


def test_the_page_says_why_there_are_no_schedules(root: Path) -> None:
    (root / "spool.toml").write_text("[recurring.nightly]\nevery = 'never'\ntask = 'a'\n")
    assert "recurring.nightly" in text(Site(root), "/schedule")
    (root / "spool.toml").write_text("")
    assert "Nothing recurs." in text(Site(root), "/schedule")


def test_who_may_not_read_the_settings_is_told_so(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    def closed(_: object) -> None:
        raise PermissionError(13, "Permission denied", "spool.toml")

    monkeypatch.setattr(recurring, "settings_of", closed)
    assert f"{root}/spool.toml: uid" in text(Site(root), "/schedule")


def test_a_schedule_can_be_paused_where_that_is_allowed(root: Path) -> None:
    (root / "spool.toml").write_text(SCHEDULES)
    assert 'value="@nightly"' in page(Site(root, allow=True), "/schedule")
    assert 'value="@nightly"' not in page(Site(root), "/schedule")


def test_the_calendar_has_each_time_on_its_day(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setenv("TZ", "UTC")
    (root / "spool.toml").write_text(SCHEDULES)
    with Spool(root) as spool:
        days, often = recurring.calendar(recurring.settings_of(spool.disk), NOON)
    both = [("nightly", ["01:30"]), ("rates", ["09:00", "17:00"])]
    assert days[:3] == [("Sat 21 Nov", []), ("Sun 22 Nov", [both[0]]), ("Mon 23 Nov", both)]
    assert len(days) == recurring.AHEAD
    assert often == ["sweep"]


def test_what_is_paused_does_not_come_before_its_pause_ends(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    (root / "spool.toml").write_text(SCHEDULES)
    rows = [("@nightly", NOON + 3 * DAY_US), ("@rates", None), ("@sweep", NOON - 1)]
    row: dict[str, Any] = {"kind": "pause", "who": "ann", "why": None}
    pauses = [{**row, "task": task, "until": until} for task, until in rows]
    (root / "nodes" / "pauses.json").write_text(json.dumps(pauses))
    with Spool(root) as spool:
        known = recurring.settings_of(spool.disk)
        found = list(recurring.rows(spool.disk, known, NOON))
    assert [(row["paused"], row["paused_until"]) for row in found] == [
        (True, NOON + 3 * DAY_US), (True, None), (False, None)
    ]  # fmt: skip
    days, often = recurring.calendar(known, NOON, found)
    assert [items for _, items in days] == [[]] * 4 + [[("nightly", ["01:30"])]] * 3
    assert often == ["sweep"]
    pauses[0]["until"] = time.time_ns() // 1000 + 3 * DAY_US
    (root / "nodes" / "pauses.json").write_text(json.dumps(pauses))
    assert re.search(r"paused until \d{4}-\d\d-\d\d \d\d:\d\d ", text(Site(root), "/schedule"))


def test_a_pause_written_by_hand_may_say_no_more_than_its_kind(root: Path) -> None:
    (root / "nodes" / "pauses.json").write_text(
        '[{"kind": "pause"}, {"kind": "drain", "uid": 7, "since": 1}]'
    )
    for path in PAGES:
        shown = " ".join(text(Site(root), path).split())
        assert "Paused Drained by uid 7 since" in shown
    with Spool(root) as spool:
        first, second = spool.status()["pauses"]
        reasons = Why(spool.disk, spool.path, NOON, str)
        assert (reasons.pause(first), reasons.pause(second)) == ("paused", "drained by uid 7 since 1")


def test_a_list_is_made_of_the_time_it_is_asked_for(root: Path) -> None:
    source = Source(Spool(root))
    made: list[int] = []
    for now in (1, 2):

        def asked(now: int = now) -> bool:
            source.list("a", lambda _: made.append(now))
            source._lists["a"].again = 0
            return made[-1:] == [now]

        until(asked, "it is made with the new time")


@pytest.mark.parametrize(("most", "named"), [(1, ["0", "1"]), (4, ["0", "5"]), (7, ["0", "5", "10"])])
def test_an_axis_of_counts_names_no_halves(most: int, named: list[str]) -> None:
    shown = str(plots.bars(replace(frame(3), say=short), [plots.Series("a", [0, most, None], "s-done")]))
    assert re.findall(r'text-anchor="end">([^<]*)<', shown) == named


def test_no_page_waits_for_a_look_at_all_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, entry = queue(root.parent / "long", 60)
    counted_by_a_daemon(root.parent / "long", 60)
    monkeypatch.setattr(look, "MANY", 50)
    site = Site(root.parent / "long")
    gate, slices, names = threading.Event(), RealDisk.slices, RealDisk.names
    listed: list[str] = []

    def aside(path: str) -> None:
        where = threading.current_thread()
        assert isinstance(where, threading.Thread)
        if where.name == "source":
            return  # which looks at the spool for all pages: what was counted is old on a slow machine
        assert "_run" in where.name, f"a page lists {path} itself"
        listed.append(path)
        assert gate.wait(60)

    def slowly(disk: RealDisk, path: str, size: int) -> Iterator[list[str]]:
        aside(path)
        yield from slices(disk, path, size)

    def named(disk: RealDisk, path: str) -> list[str]:
        if path.split("/", maxsplit=1)[0] in layout.STATES and "/" in path:
            aside(path)
        return names(disk, path)

    monkeypatch.setattr(RealDisk, "slices", slowly)
    monkeypatch.setattr(RealDisk, "names", named)
    try:
        for path in (*PAGES, f"/task/{entry.id}"):
            assert site.ask(path).status == 200, path
        assert listed
        assert "are being read" in site.ask("/queue").body
    finally:
        gate.set()
    client.close()


def test_a_task_that_was_moved_is_found_without_a_look_at_all_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, entry = queue(root.parent / "long", 60)
    moved = layout.pending(replace(entry, time=entry.time + 9 * DAY_US))
    (root.parent / "long" / moved).parent.mkdir(parents=True)
    (root.parent / "long" / layout.pending(entry)).rename(root.parent / "long" / moved)
    (root.parent / "long" / "journal" / "here").mkdir()
    line = {"at": format_utc(entry.time), "event": "move", "id": entry.id, "task": "t", "entry": moved}
    day = root.parent / "long" / "journal" / "here" / f"{line['at'][:10]}.jsonl"
    said = json.dumps(line, separators=(",", ":")) + "\n"
    day.write_text(said * pages.LINES)  # why it waits is told however much was done to it
    site = Site(root.parent / "long")
    monkeypatch.setattr(site.spool.disk, "slices", None)
    assert "(in " in site.ask(f"/task/{entry.id}").body
    client.close()


def test_the_lists_of_a_page_are_made_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spool.dash.source.PATIENCE", 60)
    begun = {name: threading.Event() for name in "ab"}

    def make(name: str, other: str) -> bool:
        begun[name].set()
        return begun[other].wait(60)

    found = Source(Spool(root)).lists({"a": lambda _: make("a", "b"), "b": lambda _: make("b", "a")})
    assert [value for value, _ in found] == [True, True]


def test_a_list_that_took_long_is_shown_as_it_was_while_it_is_made_anew(root: Path) -> None:
    source, gate = Source(Spool(root)), threading.Event()
    assert until(lambda: source.list("a", lambda _: "old")[0], "it is made") == "old"
    known = source._lists["a"]
    known.took, known.again = 60.0, 0.0
    known.make = lambda _: gate.wait(60)
    try:
        known.begin()
        assert known.get(time.monotonic() + 1000)[0] == "old"
    finally:
        gate.set()


def test_a_page_that_did_not_get_the_newest_list_is_told_when_it_is_there(root: Path) -> None:
    source, gate = Source(Spool(root)), threading.Event()
    assert source.list("a", lambda _: gate.wait(60)) == (None, None)
    before = source.version
    gate.set()
    until(lambda: source.version != before, "the page is told")
    assert source.list("a", lambda _: None)[0] is True


def test_a_list_that_is_older_than_the_last_change_is_made_anew_without_a_request(root: Path) -> None:
    source = Source(Spool(root))
    old = until(lambda: source.list("a", lambda _: source.moment)[0], "it is made")
    source._look()
    source._lists["a"].again = math.inf
    assert source.list("a", lambda _: source.moment)[0] is old
    source._lists["a"].again, version = 0.0, source.version
    source.start()
    until(lambda: source.version > version, "the page is told")
    assert source.list("a", lambda _: source.moment)[0] is not old


def test_a_change_while_a_page_is_made_is_told_to_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, nodes = Site(root), pages.nodes
    monkeypatch.setattr(pages, "nodes", lambda source: source.tell() or nodes(source))
    assert 'data-version="0"' in site.ask("/nodes").body
    assert site.source.version == 1


def test_lists_that_take_long_are_made_in_turns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spool.dash.source.PATIENCE", 0)
    for number in range(3 * look.SLICE):
        (root / "held" / f"{number}").touch()
    busy = threading.Lock()
    done: list[int] = []

    def make(disk: RealDisk) -> None:
        for batch in disk.slices("held", look.SLICE):
            assert busy.acquire(blocking=False), "two slices at the same time"
            time.sleep(0)  # whoever else may go on does so
            busy.release()
            done.append(len(batch))

    source = Source(Spool(root))
    source.lists(dict.fromkeys("abc", make))
    until(lambda: sum(done) == 9 * look.SLICE, "all lists are made")


def test_times_below_a_plot_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    for width, many in flows.RANGES.values():
        starts = [NOON - (many - at) * width for at in range(many)]
        shown = Frame(title="T", starts=starts, width=width, say=str, **flows.clocks(width, NOON))
        drawn = str(plots.lines(shown, [plots.Series("a", [1.0] * many, "s-one")]))
        labels = re.findall(
            rf'<text x="([0-9.]+)" y="{plots.HEIGHT - 5}" text-anchor="(\w+)">([^<]*)<', drawn
        )
        assert len(labels) >= 4
        ends = -1.0
        for x, anchor, said in labels:
            wide = 6.5 * len(said)  # units, at 11 px
            left = float(x) - (wide / 2 if anchor == "middle" else 0)
            assert left > ends, (width, labels)
            ends = left + wide


def test_a_list_of_what_is_held_says_why_in_words(root: Path) -> None:
    take_in(root, new_id(), "mail.send", "held", why="no-handler")
    assert "no handler" in text(Site(root), "/tasks?state=held")


def test_a_count_that_is_made_beside_the_page_is_of_now(root: Path) -> None:
    take_in(root, new_id(), "mail.send")
    assert "Counted now." in text(Site(root), "/queue")


def test_hours_of_the_calendar_are_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    from spool.scene import calendar

    monkeypatch.setenv("TZ", "UTC")
    days: Any = calendar.coming({NOON: {"high": 2}, NOON + DAY_US + HOUR: {"low": 1}}, NOON)
    assert (days[0][1][12], days[1][1][13]) == ((NOON, 2), (NOON + DAY_US + HOUR, 1))


@pytest.mark.parametrize(
    ("zone", "day", "due_at", "cells"),
    [
        ("Europe/Rome", "2026-03-29", ["00:30", "01:30"], {1: 1, 3: 1}),  # 02 is skipped
        ("Europe/Rome", "2026-10-25", ["00:30", "01:30", "02:30"], {2: 2, 3: 1}),  # 02 comes twice
        ("Asia/Kolkata", "2026-03-29", ["00:00", "01:00"], {6: 1, 7: 1}),
    ],
)
def test_an_hour_that_the_clock_skips_has_none_and_one_that_comes_twice_has_both(
    monkeypatch: pytest.MonkeyPatch, zone: str, day: str, due_at: list[str], cells: dict[int, int]
) -> None:
    from spool.scene import calendar

    monkeypatch.setenv("TZ", zone)
    at = [parse_utc(f"{day}T{clock}:00Z") // HOUR * HOUR for clock in due_at]
    days = calendar.coming({us: {"high": 1} for us in at}, at[0] - 12 * HOUR)
    assert {hour: n for _, row in days for hour, (_, n) in enumerate(row) if n} == cells


def test_where_no_daemon_tells_no_page_says_that_nothing_waits_or_runs(root: Path) -> None:
    for state in ("pending", "running"):
        take_in(root, new_id(), "mail.send", state)
    (root / "nodes/here.lock").touch()
    (root / "nodes/here.json").write_text(json.dumps({"written_at": "2026-11-21T12:00:00.000000Z"}))
    site = Site(root)
    shown = text(site, "/")
    for said in ("No spoold serves this spool. Last seen 2026-11-21", "No daemon tells what comes next.",
                 "1 in running/ , no daemon tells of them."):  # fmt: skip
        assert said in shown
    assert "Nothing waits" not in shown
    assert "Nothing runs" not in shown


def test_what_lies_in_incoming_is_told_where_no_daemon_takes_it_in(root: Path) -> None:
    with Spool(root) as spool:
        spool.submit("mail.send")
    site = Site(root)
    assert "1 in incoming/. Start a daemon: spoold --spool" in text(site, "/")
    assert text(site, "/queue").count("Nothing waits but what is in incoming/.") == 2


def test_where_nothing_runs_the_command_that_helps_can_be_pasted(tmp_path: Path) -> None:
    init(str(tmp_path / "my spool"))
    assert f"spoold --spool &#39;{tmp_path}/my spool&#39;" in page(Site(tmp_path / "my spool"), "/")


def test_a_group_whose_mute_has_ended_is_open_wherever_it_is_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time_ns() // 1000
    for name, end in (("a" * 16, now - HOUR), ("b" * 16, now + HOUR)):
        found = Group(fingerprint=name, task=f"task.{name[0]}", type="E", message="", place=(), first=now,
                      last=now, count=1, state="muted", until=end, by={"uid": 1})  # fmt: skip
        (root / "errors" / f"{name}.json").write_bytes(encode(found))
    site = Site(root)
    assert pages.head(site.source)["open_errors"] == 1
    for path in ("/", "/errors"):
        assert ("task.a" in text(site, path), "task.b" in text(site, path)) == (True, False)
    assert main(["errors", "--spool", str(root)]) == 0
    told = capsys.readouterr().out
    assert ("task.a" in told, "task.b" in told, "muted" in told) == (True, False, False)


def test_what_has_failed_says_why_in_the_list(root: Path) -> None:
    task_id = new_id()
    path = take_in(root, task_id, "mail.send", "failed", fails=2)
    put_record(root, task_id, path, "failed", 2, error={"message": "relay <refused>"})
    assert "relay &lt;refused&gt;" in page(Site(root), "/tasks?state=failed")
    with Spool(root) as spool:
        [one] = lists.told(spool.disk, lists.newest(spool.disk, "failed", 9))
    assert one.why == "relay <refused>"


def test_what_was_cancelled_says_why_in_the_list(root: Path) -> None:
    task_id = new_id()
    path = take_in(root, task_id, "mail.send", "cancelled")
    put_record(root, task_id, path, "cancelled", error={"message": "its key k is taken by another"})
    assert "its key k is taken by another" in text(Site(root), "/tasks?state=cancelled")
