"""Python tasks survive a deploy: new code, old tasks, and no attempt lost on either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.e2e.live import ROOT, handler, until
from tests.e2e.test_python import app, python, write  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.live import Live

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


def test_an_upgrade_may_raise_what_a_task_may(app) -> None:  # noqa: F811
    spool = app("""
import dataclasses
@dataclasses.dataclass
class Box:
    size: int
    def __post_init__(self): sys.exit(self.size)
@task("t.pid", retries=0)
def pid() -> int: return os.getpid()
@task("t.old", version=2, retries=0)
def old(box: Box | None = None) -> None: ...
@task("t.beside", version=2, retries=0)
async def beside(box: Box | None = None) -> None: ...
def upgrade(args):
    match args.pop("how"):
        case "cancel": raise Cancelled("obsolete")
        case "exit": sys.exit("bye")
        case "stop": raise KeyboardInterrupt
        case "sleep": time.sleep(60)
        case "log": print("attempt", current().attempt)
    return args
old.upgrade(from_version=1)(upgrade)
beside.upgrade(from_version=1)(upgrade)
""", concurrency=1)  # fmt: skip
    worker = spool.end(spool.submit("t.pid"))["result"]

    def run(name: str, **args: Any) -> dict[str, Any]:
        options = {"timeout": "200ms"} if args["how"] == "sleep" else {}
        return spool.end(spool.submit(name, args=args, version=1, retries=0, **options))

    for name in ("t.old", "t.beside"):
        assert run(name, how="cancel")["event"] == "cancelled"
        ends = [run(name, how="exit"), run(name, how="stop"), run(name, how="no", box={"size": 3})]
        assert [end["error"]["type"] for end in ends] == ["SystemExit", "KeyboardInterrupt", "SystemExit"]
        assert {end["attempt"] for end in ends} == {1}
        assert run(name, how="no", box={})["error"]["type"] == "Invalid"
        assert spool.log(run(name, how="log")["id"]) == b"attempt 1\n"
    assert spool.end(spool.submit("t.pid"))["result"] == worker
    timed_out = run("t.old", how="sleep")
    assert (timed_out["outcome"], "its worker was killed" in timed_out["error"]["message"]) == (
        "timeout", False,
    )  # fmt: skip


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
    assert spool.spoold("--reload").wait(30) == 0
    done = spool.end(task_id)
    assert (done["result"], done["attempt"]) == ("two ada", 1)


def test_code_that_does_not_work_costs_no_attempt_however_soon_workers_are_replaced(
    app,  # noqa: F811
    tmp_path: Path,
) -> None:
    code = """
@task("t.who")
def who() -> list[object]: return ["{}", os.getpid()]
"""
    spool = app(code.format("old"), concurrency=1, recycle_tasks=2)
    old = spool.end(spool.submit("t.who"))["result"]
    write(tmp_path, "import nothing_like_it")
    spool.signal(signal.SIGHUP)
    until(lambda: "the code before it goes on" in spool.command("status", check=False), "it is known")
    ends = [spool.end(spool.submit("t.who", retries=0)) for _ in range(5)]
    assert [end["result"] for end in ends] == [old] * 5
    write(tmp_path, code.format("new"))
    until(lambda: spool.end(spool.submit("t.who", retries=0))["result"][0] == "new", "it is replaced")


def test_a_task_without_a_function_waits_for_one(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    task_id = spool.submit("t.later", args={})
    assert spool.entry(task_id, "held").why == "no-handler"
    say = [sys.executable, "-m", "spool", "--spool", str(spool.root), "why", task_id]
    assert subprocess.check_output(say, text=True).startswith("module apptasks has no function `t.later`")
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


def check(spool: Live, place: Path, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """`spool check-deploy --json` in a process of its own: status, rows, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "spool", "--spool", str(spool.root), "check-deploy", "--json",
         "--path", str(place), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTES": str(spool.notes)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_check_deploy_holds_every_task_against_the_code_and_runs_none(spool_at, tmp_path: Path) -> None:
    write(tmp_path, ONE)
    spool = spool_at(python(tmp_path) + handler("other", "true")).start()
    spool.do({"action": "pause"})
    for _ in range(3):
        spool.submit("t.hello", args={"name": "ada"}, version=1)
    spool.submit("t.hello", args={"name": 7}, version=1, at="+1d")
    spool.submit("t.gone")
    spool.submit("other")
    spool.wait_count(6, "pending")
    spool.stop()
    new = tmp_path / "new"
    new.mkdir()
    write(new, 'print("imported")\n' + ONE)
    status, rows, _ = check(spool, new, "apptasks")
    assert status == 1
    assert [(r["task"], r["version"], r["count"]) for r in rows] == [
        ("t.gone", None, 1),
        ("t.hello", 1, 1),
    ]
    assert "args.name" in rows[1]["reason"]
    write(new, TWO)
    _, rows, _ = check(spool, new)
    assert [(r["task"], r["count"]) for r in rows] == [("t.gone", 1), ("t.hello", 4)]
    assert "version 2, not 1" in rows[1]["reason"]
    write(
        new, TWO + UPGRADE.replace('args["name"]', 'str(args["name"])') + '@task("t.gone")\ndef g(): ...'
    )
    assert check(spool, new)[:2] == (0, [])
    write(new, "import nothing_of_this_name")
    status, _, said = check(spool, new)
    assert (status, "nothing_of_this_name" in said) == (65, True)
    assert spool.lines("ran") == []


def test_check_deploy_looks_at_what_was_dropped_and_not_taken_in(spool_at, tmp_path: Path) -> None:
    write(tmp_path, ONE)
    spool = spool_at(python(tmp_path))
    spool.submit("t.hello", args={"name": "ada"})
    spool.submit_all([{"task": "t.hello", "args": {}}, {"task": "t.hello", "args": {"name": "bob"}}])
    status, rows, _ = check(spool, tmp_path)
    assert (status, [row["count"] for row in rows]) == (1, [1])
    assert rows[0]["reason"] == "args.name: is required"


def test_a_reload_says_when_the_new_code_is_there_and_what_keeps_it_out(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app(ONE)
    assert spool.end(spool.submit("t.hello", args={"name": "ada"}))["result"] == "one ada"
    write(tmp_path, "time.sleep(0.5)\n" + TWO)
    assert spool.once("--reload") == 0
    pool = spool.status(lambda _: True, "it is there")["python"][0]
    assert (pool["starting"], pool["workers"] - pool["leaving"]) == (
        0,
        1,
    )  # what is handed over now is run by it
    assert spool.end(spool.submit("t.hello", args={"names": ["bob"]}))["result"] == "two bob"
    write(tmp_path, "import nothing_of_the_kind\n")
    assert spool.once("--reload") == 1
    assert "the old goes on: apptasks: ModuleNotFoundError" in spool.says()
    assert spool.end(spool.submit("t.hello", args={"names": ["eve"]}))["result"] == "two eve"
    good = (spool.root / "spool.toml").read_bytes()
    (spool.root / "spool.toml").write_bytes(good + b"concurrency = many\n")
    assert spool.once("--reload") != 0
    write(tmp_path, TWO)
    (spool.root / "spool.toml").write_bytes(good)
    assert spool.once("--reload") == 0


def test_a_reload_without_a_daemon_says_so(spool_at) -> None:
    spool = spool_at("")
    assert spool.once("--reload") == 69
    assert "no daemon serves it" in spool.says()


def test_a_broken_module_costs_what_waits_no_attempts(app, tmp_path: Path) -> None:  # noqa: F811
    spool = app("raise RuntimeError('half a deploy')", concurrency=1)
    ids = [spool.submit("t.hello", args={"name": "a"}) for _ in range(20)]
    first = spool.event("retrying")
    assert first["error"]["type"] == "RuntimeError"
    write(tmp_path, ONE)
    spool.signal(signal.SIGHUP)
    ends = [spool.end(task_id) for task_id in ids]
    assert {end["result"] for end in ends} == {"one a"}
    assert sum(end["attempt"] - 1 for end in ends) < 5
