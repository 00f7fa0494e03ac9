"""The demonstration does what it shows, and leaves what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[2]
LINE = re.compile(r" *\d+\.\d\d s  (?P<word>\S.{7,14}?)  (?P<task>\S*) *(?P<text>\S.*)")

if TYPE_CHECKING:
    from collections.abc import Mapping


def demo(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def shown(text: str) -> list[Mapping[str, str]]:
    lines = text.partition("\n\n")[0].splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), text
    assert max(map(len, lines)) <= 80, text
    return [{k: v.rstrip() for k, v in match.groupdict().items()} for match in found if match]


def test_the_demonstration_shows_every_kind_of_thing_and_ends_well(tmp_path):
    ended = demo(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout  # no terminal, no colours
    lines = shown(ended.stdout)
    said = {(line["word"], line["task"]) for line in lines}
    assert {
        ("submit", "pack.file"),
        ("error", "fetch.page"),
        ("done", "sum.file"),
        ("done", "pack.file"),
        ("retrying", "fetch.page"),
        ("done", "fetch.page"),
        ("lift", "report.day"),
        ("ready", "order.ship"),
        ("done", "order.ship"),
        ("kill -9", ""),
        ("lost", "pack.file"),
    } <= said
    words = [line["word"] for line in lines]
    assert words.index("kill -9") < words.index("lost")
    assert lines[-1]["word"] == "ok"
    assert lines[-1]["text"].startswith("all 21 tasks done")


def test_the_commands_it_prints_work_as_printed(tmp_path):
    ended = demo(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    commands = [line.strip() for line in ended.stdout.splitlines()[-3:]]
    for command, part in zip(commands, ("fetch.page", "attempt", "spool-client.py.gz"), strict=True):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command + done.stderr
        assert part in done.stdout, command + done.stdout


def test_a_second_run_starts_anew_and_what_is_no_spool_stays(tmp_path):
    (tmp_path / "demo-spool").mkdir()
    (tmp_path / "demo-spool" / "mine").write_text("mine")
    ended = demo(tmp_path)
    assert ended.returncode == 1
    assert "move it away" in ended.stderr
    assert os.listdir(tmp_path / "demo-spool") == ["mine"]
