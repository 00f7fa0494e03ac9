"""A command that takes long shows how far it is on a terminal, leaves nothing there, and is silent in a pipe."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.command import bar
from spool.command.main import main
from spool.init import init
from spool.names import new_id
from tests.unit.test_client import put_record, take_in
from tests.unit.test_command import on_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = (
    "-c",
    "from spool.command import bar, main; bar.QUIET = bar.EVERY = 0; raise SystemExit(main.main())",
)
TASKS = 5
MODULE = "from spool import task\n@task('a')\ndef a() -> None: ...\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A spool where some tasks wait and as many are done."""
    place = tmp_path / "spool"
    init(str(place))
    for _ in range(TASKS):
        take_in(place, new_id())
        task_id = new_id()
        put_record(place, task_id, take_in(place, task_id, state="done"))
    (place / "spool.toml").write_text('[handlers.a]\npython = "some_code"\n')
    (tmp_path / "some_code.py").write_text(MODULE)
    init(str(tmp_path / "other"))
    return place


def commands(root: Path) -> dict[str, tuple[str, ...]]:
    """What takes long, and how its line begins when half of it is done."""
    above, other = str(root.parent), str(root.parent / "other")
    return {
        "fsck": ("fsck", rf"fsck  \[#+\.*\] +\d+%  \d+ of {3 * TASKS} files"),
        "check-deploy": ("check-deploy", "--path", above, rf"\[#+\] +100%  {TASKS} of {TASKS} tasks"),
        "prune": ("prune", "--dry-run", rf"prune  {TASKS} names"),
        "replay": ("replay", "--all", "--yes", "--into", other, rf"  [1-4] of {TASKS} tasks"),
        "bench": ("bench", "--quick", above, r"bench  \[#+\.+\] +40%  2 of 5"),
    }


@pytest.mark.parametrize("verb", ["fsck", "check-deploy", "prune", "replay", "bench"])
def test_a_long_command_shows_how_far_it_is_and_clears_the_line(root: Path, verb: str) -> None:
    *words, wanted = commands(root)[verb]
    os.chmod(root / "spool.toml", 0o600)
    for day in (root / layout.DONE).iterdir() if verb == "prune" else ():
        day.rename(day.with_name("2020-01-01"))
    shown = on_a_terminal(*words, "--spool", str(root), before=AT_ONCE, COLUMNS="100")
    pictures = shown.split(bar.CLEAR)
    assert any(re.search(wanted, picture) for picture in pictures[1:-1]), pictures
    assert all("\n" not in picture or not picture.startswith(verb + "  [") for picture in pictures)
    assert not pictures[-1].startswith(f"{verb}  ")


@pytest.mark.parametrize("verb", ["fsck", "check-deploy", "prune", "replay"])
def test_in_a_pipe_nothing_is_shown(
    root: Path, capfd: pytest.CaptureFixture[str], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "QUIET", 0)
    monkeypatch.chdir(root.parent)
    assert main([*commands(root)[verb][:-1], "--spool", str(root)]) == 0
    assert bar.CLEAR not in "".join(capfd.readouterr())


def test_a_finding_has_a_line_of_its_own(root: Path) -> None:
    (root / layout.DONE / "stranger").mkdir()
    (root / layout.DONE / "stranger" / "thing").touch()
    shown = on_a_terminal_that_finds(root)
    line = next(line for line in shown.split("\n") if "stranger/thing: " in line)
    assert line.rpartition(bar.CLEAR)[2].startswith("done/stranger/thing: ")


def on_a_terminal_that_finds(root: Path) -> str:
    before = (AT_ONCE[0], AT_ONCE[1].replace("SystemExit(", "SystemExit(-1 + "))
    return on_a_terminal("fsck", "--spool", str(root), before=before)
