"""Files that come with a task, and those it makes: there when it starts, kept as long as it, then gone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from spool import Spool, layout
from spool.fsck import check
from spool.names import new_id
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Live]

ADD = handler(
    "add",
    'cat "$SPOOL_FILES"/* > $NOTES/seen; mkdir "$SPOOL_FILES/out"; echo made > "$SPOOL_FILES/out/it"',
)
PY = """
from spool import current, task

@task("py.turn")
def turn() -> str:
    text = (current().files / "in").read_text()
    (current().files / "out").write_text(text[::-1])
    return text
"""


def put(spool: Live, task_id: str, **files: str) -> list[str]:
    """Files as a writer without any program of ours puts them."""
    for name, text in files.items():
        (spool.root / layout.given(task_id, name)).write_text(text)
    return list(files)


def test_a_program_is_given_files_and_what_it_makes_is_shown_with_the_task(live: Make) -> None:
    spool = live(ADD)
    task_id = new_id()
    spool.drop({"task": "add", "id": task_id, "files": put(spool, task_id, a="one ", b="two")})
    spool.entry(task_id, "done")
    assert (spool.notes / "seen").read_text() == "one two"
    command = [sys.executable, "-m", "spool", "show", task_id]
    env = {**os.environ, "SPOOL_DIR": str(spool.root)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "out/it (5 bytes)" in said
    with Spool(spool.root) as client:
        assert client.get(task_id).files == {"a": 4, "b": 3, "out/it": 5}
    assert os.listdir(spool.root / layout.TMP) == []


def test_a_function_finds_its_files_and_a_replay_gets_them_again(live: Make, tmp_path: Path) -> None:
    spool = live(ADD)
    app = spool.place / "app"
    app.mkdir()
    (app / "turning.py").write_text(PY)
    spool.settings(handler("py.*", python="turning", cwd=str(app)))
    (tmp_path / "text").write_text("abc")
    with Spool(spool.root) as client:
        first = client.submit("py.turn", files={"in": tmp_path / "text"})
        (many,) = client.submit_many([{"task": "py.turn", "files": {"in": str(tmp_path / "text")}}])
        for task_id in (first, many):
            assert client.wait(task_id, timeout=30)["result"] == "abc"
            assert (spool.root / layout.files(task_id) / "out").read_text() == "cba"
    spool.do({"action": "replay", "ids": [first], "force": True})
    spool.wait_count(3, "done")
    again = next(e.id for _, e in spool.entries("done") if e.id not in (first, many))
    assert sorted(os.listdir(spool.root / layout.files(again))) == ["in", "out"]


def test_the_command_brings_files_and_says_what_is_wrong_with_them(live: Make, tmp_path: Path) -> None:
    spool = live(ADD)
    (tmp_path / "a").write_text("x")
    env = {**os.environ, "SPOOL_DIR": str(spool.root)}

    def say(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "spool", "submit", "add", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = say("--attach", f"a={tmp_path}/a")
    assert code == 0
    spool.entry(out.strip(), "done")
    for words, text in (
        ("a", "NAME=PATH"),
        ("a=/nowhere/x", "nowhere"),
        (f"a b={tmp_path}/a", "files[0]"),
    ):
        code, out, error = say("--attach", words)
        assert (code != 0, out) == (True, "")
        assert text in error
    assert [n for n in os.listdir(spool.root / layout.TMP) if not n.startswith(".")] == []


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"files": ["a"]}, "files", "is not there"),
        ({"files": ["../a"]}, "files[0]", "must be 1 to 64"),
        ({"files": ["a", "a"]}, "files", "twice"),
        ({"files": []}, "files", "list of 1"),
        ({"files": ["link"]}, "files", "regular"),
        ({"files": ["a"], "id": None}, "files", "goes with id"),
    ],
)
def test_files_that_cannot_be_are_refused(
    live: Make, body: dict[str, Any], field: str, rule: str
) -> None:
    spool = live(ADD)
    task_id = new_id()
    (spool.root / layout.given(task_id, "link")).symlink_to("/etc/passwd")
    doc = {k: v for k, v in {"task": "add", "id": task_id, **body}.items() if v is not None}
    reason = spool.refusal(spool.drop(doc))
    assert reason["field"] == field
    assert rule in reason["rule"]


def test_a_killed_daemon_has_the_files_of_all_that_was_submitted(live: Make) -> None:
    spool = live(handler("add", 'cat "$SPOOL_FILES"/* >> $NOTES/seen', concurrency=1))
    ids = [new_id() for _ in range(30)]
    for number, task_id in enumerate(ids):
        spool.drop({"task": "add", "id": task_id, "files": put(spool, task_id, n=f"{number}\n")})
        if number % 10 == 5:
            spool.kill9()
            spool.start()
    spool.wait_count(30, "done")
    assert {int(line) for line in spool.lines("seen")} == set(range(30))
    spool.stop()
    with Spool(spool.root) as client:
        assert [f for f in check(client.disk) if f.grave] == []


def test_files_go_with_their_task_and_those_of_nobody_are_put_away(live: Make) -> None:
    spool = live(ADD)
    task_id, other = new_id(), new_id()
    spool.drop({"task": "add", "id": task_id, "files": put(spool, task_id, a="x")})
    spool.entry(task_id, "done")
    spool.stop()
    next((spool.root / "done").iterdir()).rename(spool.root / "done" / "2026-01-01")
    spool.settings('keep_done = "3d"\n' + ADD)
    spool.start()
    until(lambda: spool.count() == 0, "it is gone")
    until(lambda: not list((spool.root / layout.FILES).iterdir()), "and its files")
    spool.stop()
    orphan = spool.root / layout.files(other)
    orphan.mkdir(parents=True)
    (orphan / "a").write_text("x")
    with Spool(spool.root) as client:
        found = [f.what for f in check(client.disk, repair=True)]
    assert "holds files of a task that is not there" in found
    assert not orphan.exists()
