"""Python tasks survive a deploy: new code, old tasks, and no attempt lost on either."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.e2e.live import until
from tests.e2e.test_python import app, python, write  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

ONE = """
@task("t.hello")
def hello(name: str) -> str:
    return f"one {name}"
"""
TWO = """
@task("t.hello", version=2)
def hello(names: list[str]) -> str:
    return f"two {' and '.join(names)}"
"""
UPGRADE = """
@hello.upgrade(from_version=1)
def _(args):
    return {"names": [args["name"]]}
"""


def test_a_task_of_an_older_version_is_upgraded(app) -> None:  # noqa: F811
    spool = app(TWO + UPGRADE)
    old = spool.submit("t.hello", args={"name": "ada"}, version=1)
    new = spool.submit("t.hello", args={"names": ["bob"]}, version=2)
    plain = spool.submit("t.hello", args={"names": ["eve"]})
    assert spool.end(old)["result"] == "two ada"
    assert spool.end(new)["result"] == "two bob"
    assert spool.end(plain)["result"] == "two eve"


def test_upgrades_are_chained(app) -> None:  # noqa: F811
    spool = app("""
@task("t.n", version=4)
def n(x: int) -> int:
    return x
@n.upgrade(from_version=1, to_version=3)
def _(args): return {"y": args["z"] * 10}
@n.upgrade(from_version=3)
def _(args): return {"x": args["y"] + 1}
""")
    assert spool.end(spool.submit("t.n", args={"z": 4}, version=1))["result"] == 41


def test_an_alias_runs_under_its_own_name(app) -> None:  # noqa: F811
    spool = app("""
@task("t.new", aliases=["t.old"])
def new() -> str:
    return current().task
""")
    assert spool.end(spool.submit("t.old"))["result"] == "t.old"


def test_a_task_too_new_waits_for_its_code_and_uses_no_attempt(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    task_id = spool.submit("t.hello", args={"names": ["ada"]}, version=2)
    assert spool.entry(task_id, "held").why == "version"
    assert spool.records(task_id) == []
    write(tmp_path, TWO)
    spool.signal(signal.SIGHUP)
    done = spool.end(task_id)
    assert (done["result"], done["attempt"]) == ("two ada", 1)


def test_a_task_without_a_function_waits_for_one(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    task_id = spool.submit("t.later", args={})
    assert spool.entry(task_id, "held").why == "no-handler"
    write(tmp_path, ONE + '@task("t.later")\ndef later(): return 7\n')
    spool.signal(signal.SIGHUP)
    assert spool.end(task_id)["result"] == 7


def test_a_held_task_goes_on_after_a_restart_with_new_code(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    task_id = spool.submit("t.hello", args={"names": ["ada"]}, version=2)
    spool.entry(task_id, "held")
    spool.stop()
    write(tmp_path, TWO)
    spool.start()
    assert spool.end(task_id)["result"] == "two ada"


def test_a_version_the_handler_does_not_take_waits(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(TWO + UPGRADE, versions=[2])
    task_id = spool.submit("t.hello", args={"name": "ada"}, version=1)
    assert spool.entry(task_id, "held").why == "version"
    spool.settings(python(tmp_path))
    assert spool.end(task_id)["result"] == "two ada"


def test_at_a_reload_what_runs_finishes_in_the_old_code(app, tmp_path: Path) -> None:  # noqa: F811
    body = """
@task("t.long")
def long() -> str:
    note("began")
    while not os.path.exists(f"{NOTES}/go"):
        time.sleep(0.01)
    return "WHICH"
@task("t.which")
def which() -> str:
    return "WHICH"
"""
    spool = app(body.replace("WHICH", "old"), more="concurrency = 4\n")
    running = spool.submit("t.long")
    spool.note("began")
    write(tmp_path, body.replace("WHICH", "new"))
    spool.signal(signal.SIGHUP)
    until(lambda: spool.end(spool.submit("t.which"))["result"] == "new", "new code runs")
    assert spool.where(running)[0] == "running"
    (spool.notes / "go").write_text("")
    assert spool.end(running)["result"] == "old"


def test_new_code_that_cannot_be_imported_changes_nothing(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    assert spool.end(spool.submit("t.hello", args={"name": "a"}))["result"] == "one a"
    write(tmp_path, "raise RuntimeError('half a deploy')")
    spool.signal(signal.SIGHUP)
    shown = spool.status(lambda s: s["python"][0]["problem"], "the status tells of it")
    assert "half a deploy" in shown["python"][0]["problem"]["message"]
    assert spool.end(spool.submit("t.hello", args={"name": "b"}))["result"] == "one b"
