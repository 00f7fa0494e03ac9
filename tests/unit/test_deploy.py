"""`spool check-deploy` says 0 only where the module of each task's handler can run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout
from spool.client import Spool
from spool.init import init
from spool.names import Entry, id_time

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TOML = """
[handlers."a.*"]
python = "mod_a"
cwd = "/srv/one"
[handlers."b.*"]
python = "mod_b"
"""


class Place:
    """A spool, and a directory of modules beside it."""

    def __init__(self, place: Path) -> None:
        self.code = place / "code"
        self.code.mkdir()
        self.root = place / "spool"
        init(str(self.root))
        self.settings(TOML)
        self.module("mod_a", a_keep="")
        self.module("mod_b", b_keep="")
        self.spool = Spool(str(self.root))

    def settings(self, text: str) -> None:
        (self.root / layout.SETTINGS).write_text(text)

    def module(self, file: str, *lines: str, **functions: str) -> None:
        """`a_keep="x: int"` is a function of these parameters, marked as the task a.keep."""
        marked = [
            f"@task('{name.replace('_', '.')}')\ndef {name}({parameters}): ..."
            for name, parameters in functions.items()
        ]
        (self.code / f"{file}.py").write_text("\n".join(["from spool import task", *lines, *marked]))

    def check(self, *words: str) -> tuple[int, list[tuple[str, int, str]], str]:
        """`spool check-deploy --json`: status, (task, count, reason), standard error."""
        status, out, said = self.run("--json", *words)
        rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        return status, [(row["task"], row["count"], row["reason"]) for row in rows], said

    def run(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "spool", "check-deploy", "--spool", str(self.root), *words],
            cwd=self.code, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.spool.close()


def test_a_task_must_be_in_the_module_of_its_handler(place: Place) -> None:
    place.module("mod_a", a_keep="")
    place.module("mod_b", b_keep="", a_moved="x: int")
    place.spool.submit("a.moved", {"x": 1})
    place.spool.submit("b.keep")
    assert place.check() == (1, [("a.moved", 1, "no function is marked @task('a.moved')")], "")
    place.module("mod_a", "import mod_b", a_keep="")  # what it brings in, a worker has as well
    assert place.check() == (0, [], "")


def test_a_module_that_can_have_nothing_to_run_is_refused(place: Place) -> None:
    status, rows, said = place.check("json")
    assert (status, rows) == (65, [])
    assert "module `json`: must mark a task, or be named by a handler" in said
    place.module("mod_a")
    assert place.check("mod_a")[0] == 0  # it has a handler
    place.module("mod_c", c_one="")
    assert place.check("mod_c")[0] == 0  # it is to have one


@pytest.mark.parametrize("line", ["import os; os._exit(0)", "import sys; sys.exit(0)", "1 / 0"])
def test_a_module_that_ends_its_process_is_no_success(place: Place, line: str) -> None:
    place.module("mod_a", line)
    status, rows, said = place.check()
    assert (status, rows) == (65, [])
    assert said.startswith("spool: module `mod_a`: cannot be imported: ")


def test_an_upgrade_that_ends_its_process_is_no_success(place: Place) -> None:
    upgrade = "@up.upgrade(from_version=1)\ndef _(args): import os; os._exit(0)"
    place.module("mod_a", "@task('a.up', version=2)\ndef up(): ...", upgrade)
    place.spool.submit("a.up", version=1)
    status, _, said = place.check()
    assert (status, "module `mod_a`: ends its process" in said) == (65, True)


@pytest.mark.parametrize(
    ("raised", "reason"), [("Cancelled('x')", ""), ("Snooze(after=1)", ""), ("Fail('x')", "Fail: x"),
                           ("SystemExit('x')", "SystemExit: x")]
)  # fmt: skip
def test_an_upgrade_may_cancel_or_put_off_its_task(place: Place, raised: str, reason: str) -> None:
    upgrade = f"@up.upgrade(from_version=1)\ndef _(args): raise {raised}"
    outcomes = "from spool import Cancelled, Fail, Snooze"
    place.module("mod_a", outcomes, "@task('a.up', version=2)\ndef up(): ...", upgrade)
    place.spool.submit("a.up", version=1)
    status, rows, _ = place.check()
    expected = [("a.up", 1, f"its upgrade raises {reason}")] if reason else []
    assert (status, rows) == (int(bool(reason)), expected)


def test_what_was_dropped_is_looked_at_wherever_it_lies(place: Place) -> None:
    boxes = place.root / layout.WRITERS
    for uid, text in (
        ("7", '{"task": "a.gone"}'),
        ("8", json.dumps({"signed": '{"task": "a.gone"}', "signature": "x"})),
    ):
        (boxes / uid).mkdir(parents=True)
        (boxes / uid / "x.json").write_text(text)
    assert place.check()[:2] == (1, [("a.gone", 2, "no function is marked @task('a.gone')")])


def test_what_a_module_writes_is_not_in_the_answer(place: Place) -> None:
    lines = "import os, sys", "os.system('echo one')", "sys.__stdout__.write('two')", "print('three')"
    place.module("mod_a", *lines)
    place.spool.submit("a.gone")
    status, rows, said = place.check()
    assert (status, len(rows)) == (1, 1)
    assert ("one" in said, "three" in said) == (True, True)


def test_the_tasks_of_schedules_are_looked_at(place: Place) -> None:
    recurring = (
        '[recurring.{}]\nevery = "@hourly"\ntask = "{}"\n'.format(*one)
        for one in (("n", "a.nosuch"), ("k", "a.keep"), ("e", "exec.it"))
    )
    place.settings(TOML + "".join(recurring) + '[handlers."exec.*"]\nexec = ["true"]\n')
    table = {"every": "1h", "task": "b.keep", "args": {"x": 1}}
    (place.root / layout.SCHEDULES).write_text(json.dumps([{"name": "set", "table": table}]))
    status, rows, _ = place.check()
    assert status == 1
    assert rows == [
        ("a.nosuch", 0, "schedule n: no function is marked @task('a.nosuch')"),
        ("b.keep", 0, "schedule set: args.x: is no parameter of b.keep"),
    ]
    place.settings(TOML.replace('cwd = "/srv/one"', "versions = [2]"))
    table = {"every": "1h", "task": "a.keep", "version": 1}
    (place.root / layout.SCHEDULES).write_text(json.dumps([{"name": "set", "table": table}]))
    assert place.check()[1] == [("a.keep", 0, "schedule set: its handler takes versions 2")]


def test_what_neither_a_handler_nor_a_parent_takes_is_listed(place: Place) -> None:
    place.settings(
        '[handlers."e.*"]\nexec = ["true"]\nversions = [2]\n[handlers."f.*"]\nnotify = "shop"\n'
    )
    place.spool.submit("spool.run", {"argv": ["true"]})
    place.spool.submit("ours", notify="shop")
    place.spool.submit("f.any", version=1)
    for version in (1, 2, None):
        place.spool.submit("e.x", version=version)
    for task, why in (("e.x", "version"), ("lost", "no-handler"), ("lost", "")):
        task_id = place.spool.submit(task, version=1)
        entry = Entry(time=id_time(task_id), id=task_id, task=task, why=why)
        path = place.root / (layout.held(entry) if why else layout.pending(entry))
        path.parent.mkdir(parents=True, exist_ok=True)
        (place.root / layout.INCOMING / f"{task_id}.json").rename(path)
    place.spool.submit("lost", version=1)
    left_out = ("e.x", 2, "its handler takes versions 2")
    lost = ("lost", 3, "no handler in spool.toml is bound to its name")
    assert place.check() == (1, [left_out, lost], "")
    assert place.check("--handler", "e.*") == (1, [left_out], "")
    assert place.check("--handler", "f.*") == (0, [], "")


def test_a_handler_can_be_chosen(place: Place) -> None:
    place.settings(TOML + '[handlers."c.*"]\npython = "mod_a"\ncwd = "/srv/two"\n')
    for task in ("a.gone", "b.gone", "c.gone"):
        place.spool.submit(task)
    assert [row[0] for row in place.check("mod_a")[1]] == ["a.gone", "c.gone"]
    assert [row[0] for row in place.check("--handler", "a.*")[1]] == ["a.gone"]
    chosen = place.check("--handler", "a.*", "--handler", "b.*")
    assert [row[0] for row in chosen[1]] == ["a.gone", "b.gone"]
    status, _, said = place.check("--handler", "a*")
    assert (status, "did you mean 'a.*'?" in said) == (65, True)


def test_version_0_is_shown(place: Place) -> None:
    place.spool.submit("a.gone", version=0)
    assert place.run()[1].splitlines()[1].split()[:3] == ["a.gone", "0", "1"]


def test_the_help_tells_every_exit_status(place: Place) -> None:
    text = place.run("--help")[1].partition("exit status:")[2]
    assert all(f"  {number}  " in text for number in ("0", "1", "65", "74", "130"))


def interpreter(place: Path, says: str) -> str:
    """A Python of its own: ours, which says so in its environment."""
    path = place / "python"
    path.write_text(f'#!/bin/sh\nWHICH={says} exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


NEEDS = "import os\nassert os.environ.get('WHICH') == 'theirs', 'has not what it needs'"


def test_a_module_is_imported_by_the_python_of_its_handler_with_its_environment(
    place: Place, tmp_path: Path
) -> None:
    place.module("mod_a", NEEDS, a_keep="")
    place.module("mod_b", "import os; assert os.environ['STAGE'] == 'live'", b_keep="")
    theirs = interpreter(tmp_path, "theirs")
    place.settings(TOML.replace('cwd = "/srv/one"', f'interpreter = "{theirs}"') + 'env.STAGE = "live"\n')
    place.spool.submit("a.keep")
    place.spool.submit("b.keep")
    assert place.check() == (0, [], "")
    assert place.check("mod_a", "mod_b") == (0, [], "")
    place.settings(TOML + 'env.STAGE = "live"\n')
    assert place.check()[0] == 65
    assert place.check("--interpreter", theirs) == (0, [], "")


def test_an_interpreter_that_is_not_there_is_named(place: Place) -> None:
    place.settings(TOML.replace('cwd = "/srv/one"', 'interpreter = "/srv/none/python"'))
    status, rows, said = place.check()
    assert (status, rows) == (65, [])
    assert said == (
        "spool: interpreter `/srv/none/python`: cannot be started: No such file or directory; "
        "name the one to use with --interpreter\n"
    )


def test_one_module_may_be_imported_by_two_pythons(place: Place, tmp_path: Path) -> None:
    theirs = interpreter(tmp_path, "theirs")
    place.settings(TOML + f'[handlers."c.*"]\npython = "mod_b"\ninterpreter = "{theirs}"\n')
    only = "import os\nif os.environ.get('WHICH') == 'theirs':\n @task('c.new')\n def c(): ..."
    place.module("mod_b", only, b_keep="")
    place.spool.submit("c.new")
    place.spool.submit("b.keep")
    assert place.check() == (0, [], "")
