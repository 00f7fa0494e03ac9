"""`spool top` on a real terminal of 80 by 24, with a live daemon: what is on the screen, what keys do."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spool import Spool
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Live]

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("textual") is None, reason="textual is not installed"),
]
HOSTILE = "\x1b]0;evil\x07[red]no[/red]\x1b[2J\u202e"
HANDLERS = (
    handler("long.*", 'echo "line one"; printf "\\033[2Jwiped\\n"; while :; do sleep 1; done', retries=0)
    + handler("bad.*", "echo relay refused >&2; exit 1", retries=0)
    + handler("shop.*", notify="shop")
)


class Screen:
    """A terminal with a command in it."""

    def __init__(self, place: Path) -> None:
        self.socket = str(place / "tmux")

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    def start(self, live: Live, *words: str, term: str = "xterm-256color") -> None:
        env = {"PYTHONPATH": str(ROOT), "TERM": term, "LC_ALL": "C.UTF-8"}
        command = ["env", *(f"{k}={v}" for k, v in env.items()), sys.executable, "-m", "spool"]
        command += ["--spool", str(live.root), "top", *words]
        line = f"{shlex.join(command)}; echo ended with $?; cat"
        self.tmux("-u", "-f", os.devnull, "new-session", "-d", "-x", "80", "-y", "24", line)

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def keys(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def shows(self, *texts: str) -> str:
        """Wait until all of it is on the screen."""

        def look() -> str | None:
            found = self.text()
            return found if all(text in found for text in texts) else None

        try:
            return until(look, f"{texts} on the screen")
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.text()}") from None

    def lacks(self, text: str) -> None:
        until(lambda: text not in self.text(), f"{text} leaves the screen")


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    found = Screen(tmp_path)
    yield found
    subprocess.run(["tmux", "-S", found.socket, "kill-server"], capture_output=True, check=False)


def test_it_shows_what_goes_on_and_its_keys_change_it(live: Make, screen: Screen) -> None:
    spool = live(HANDLERS)
    long = spool.submit("long.one")
    shop = spool.submit("shop.one")
    spool.submit("bad.one")
    later = spool.submit("bad.later", at="+1h", priority="high")
    nobody = spool.submit("nobody.home")
    spool.entry(long, "running")
    spool.entry(shop, "running")
    spool.drop({"action": "progress", "id": shop, "attempt": 1, "percent": 40, "note": HOSTILE})
    until(lambda: list((spool.root / "errors").glob("*.json")), "the group of errors has a file")

    screen.start(spool)
    wanted = ("running on here", "long.one", "shop.one", "40%", "high 1", "held 1", "fail 1")
    first = screen.shows(*wanted, "relay refused")
    lines = first.splitlines()
    assert [line.split()[0] for line in lines[2:7]] == ["next", "held", "ended", "waited", "errors"]
    assert "relay refused" in lines[6]
    assert all(len(line) <= 80 for line in lines)
    assert "wiped" not in first

    screen.keys("2")
    screen.shows("bad.later", "in 5", "WHY")
    screen.keys("m")
    screen.shows("(f)ront")
    screen.keys("l")
    spool.entry(later, "pending", where=lambda e: e.prio == "low")

    screen.keys("3")
    screen.shows("nobody.home", "no handler")
    screen.keys("c")
    screen.shows("cancel nobody.home", "y/n")
    screen.keys("n")
    screen.lacks("y/n")
    screen.keys("c")
    screen.shows("y/n")
    screen.keys("y")
    spool.entry(nobody, "cancelled")
    screen.shows("cancel: done")

    screen.keys("7")
    screen.shows("bad.one", "exit 1")
    screen.keys("r")
    screen.shows("retry all that failed")
    screen.keys("n")
    screen.lacks("y/n")

    screen.keys("1")
    screen.shows("PROGRESS", "long.one", "shop.one")
    screen.keys("/")
    screen.keys("-l", "long")
    screen.keys("Enter")
    screen.lacks("shop.one ")
    screen.shows("/long", "long.one")
    screen.keys("Enter")
    screen.shows("line one", "\\x1b[2Jwiped")
    screen.keys("Escape")
    screen.lacks("line one")  # an Escape with a q right behind it would be an Alt-q
    screen.keys("q")
    screen.shows("ended with 0")


def test_a_name_of_any_length_leaves_room_for_the_other_columns(live: Make, screen: Screen) -> None:
    spool = live(HANDLERS)
    spool.submit("bad." + "n" * 60, at="+1h", deadline="+2h", priority="high")
    screen.start(spool, "waiting")
    screen.shows("CLASS", "DEADLINE", "WHY", "bad.nnn", "…", "high", "in 59", "in 1 h 59")
    screen.keys("Enter")
    screen.shows("bad." + "n" * 60)


def test_columns_are_as_wide_as_their_cells_from_the_first_picture_on(live: Make) -> None:
    from textual.widgets import DataTable

    from spool.top.app import Top

    spool = live(HANDLERS)
    spool.entry(spool.submit("bad.one"), "failed")

    async def shown() -> list[int]:
        with Spool(spool.root) as client:
            top = Top(client, view="failed", wanted="", interval=3600)
            async with top.run_test(size=(80, 24)):
                await top.workers.wait_for_complete()
                top._drawn = ()
                top._fill(top._source.look("failed", ""))
                grid = top.query_one(DataTable)
                return [column.get_render_width(grid) for column in grid.ordered_columns]

    # TASK, ID, TRY, CLASS, each with a column to its left and right
    assert asyncio.run(shown())[:4] == [9, 11, 5, 8]


def test_what_cannot_be_read_is_said_and_ends_nothing(spool_at: Make) -> None:
    from textual.widgets import Static

    from spool.top.app import Top

    spool = spool_at(HANDLERS)
    shutil.rmtree(spool.root / "errors")
    (spool.root / "errors").symlink_to("errors")  # as where the disk says EIO

    async def shown() -> str:
        with Spool(spool.root) as client:
            top = Top(client, view="failed", wanted="", interval=3600)
            async with top.run_test(size=(120, 24)):
                await top.workers.wait_for_complete()
                return str(top.query_one("#views", Static).render())

    assert "this is what was a while ago: " in asyncio.run(shown())


def test_the_number_of_the_view_one_is_in_changes_nothing(live: Make, screen: Screen) -> None:
    spool = live(HANDLERS)
    spool.entry(spool.submit("bad.one"), "failed")
    screen.start(spool, "failed", "--interval", "1h")
    screen.shows("bad.one ", "1 failures")
    screen.keys("4", "c")
    screen.shows("cancel bad.one")
    screen.keys("n")
    screen.lacks("y/n")
    screen.keys("5", "4", "Enter")
    screen.shows("log of try 1")


def test_a_hostile_note_is_shown_and_does_nothing(live: Make, screen: Screen) -> None:
    spool = live(HANDLERS)
    shop = spool.submit("shop.one")
    spool.entry(shop, "running")
    spool.drop({"action": "progress", "id": shop, "attempt": 1, "note": HOSTILE})
    spool.status(lambda s: s["running"] and s["running"][0]["progress"], "the note is in the status")
    screen.start(spool, "running", "--interval", "100ms")
    screen.shows("shop.one", "\\x1b]0")


def test_without_a_daemon_it_says_so(spool_at: Make, screen: Screen) -> None:
    screen.start(spool_at(), "nodes")
    screen.shows("no spoold serves this spool", "no daemon has served")


def test_an_empty_view_is_no_wider_than_the_terminal(spool_at: Make) -> None:
    from textual.widgets import DataTable

    from spool.top.app import Top

    async def moved() -> float:
        with Spool(spool_at().root) as client:
            top = Top(client, view="held", wanted="", interval=3600)
            async with top.run_test(size=(80, 24)) as pilot:
                await top.workers.wait_for_complete()
                await pilot.press("end")
                await pilot.pause()
                return top.query_one(DataTable).scroll_offset.x

    assert asyncio.run(moved()) == 0


def test_what_holds_the_queue_is_wrapped_where_there_is_room(live: Make, screen: Screen) -> None:
    spool = live(HANDLERS)
    spool.do(
        {"action": "pause", "why": f"{'the data base is made anew ' * 5}and nobody knows for how long"}
    )
    screen.start(spool)
    assert "nobody knows" in screen.shows("held up paused by", "for how long").splitlines()[5]


def test_it_needs_a_terminal(spool_at: Make) -> None:
    command = [sys.executable, "-m", "spool", "--spool", str(spool_at().root), "top"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert "spool status" in done.stderr


def test_where_the_cursor_cannot_be_moved_it_names_the_command_that_needs_no_more(
    live: Make, screen: Screen
) -> None:
    screen.start(live(HANDLERS), term="dumb")
    shown = screen.shows("ended with 69")
    assert "`spool status` tells it once" in shown
