"""Python tasks, end to end: functions in warm workers, whatever they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.live import Live, alive, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = """
from __future__ import annotations
import asyncio, ctypes, os, signal, subprocess, sys, time
from spool import Cancelled, Fail, Retry, Snooze, SoftTimeout, current, task
NOTES = os.environ["NOTES"]
def note(name, text="", how="a"):
    with open(f"{NOTES}/{name}", how) as file:
        file.write(f"{text}\\n")
"""


@pytest.fixture
def app(spool_at: Callable[[str], Live], tmp_path: Path) -> Callable[..., Live]:
    """Make a spool whose tasks `t.*` are the functions of this source, and start its daemon."""

    def make(source: str, more: str = "", **settings: Any) -> Live:
        write(tmp_path, source)
        spool = spool_at(more + python(tmp_path, **settings))
        return spool.start()

    return make


def write(place: Path, source: str, name: str = "apptasks.py") -> None:
    """The application's module, replaced as a deploy does."""
    new = place / f".{name}.new"
    new.write_text(HEAD + source)
    new.replace(place / name)


def python(place: Path, name: str = "t.*", **settings: Any) -> str:
    """The lines of spool.toml that bind task names to the application."""
    settings.setdefault("python", "apptasks")
    settings.setdefault("backoff", "1ms")
    env = {"NOTES": str(place / "notes"), "PYTHONDONTWRITEBYTECODE": "1"}
    return handler(name, cwd=str(place), env=env, **settings)


def test_a_function_runs_and_its_return_value_is_the_result(app) -> None:
    spool = app("""
@task("t.add")
def add(a: int, b: int = 2) -> dict[str, int]:
    print("adding", a, b)
    os.system("echo from a program")
    return {"sum": a + b}
""")
    done = spool.end(spool.submit("t.add", args={"a": 40}))
    assert (done["event"], done["result"]) == ("done", {"sum": 42})
    assert spool.log(done["id"]) == b"adding 40 2\nfrom a program\n"
    assert done["log"].endswith(f"{done['id']}.1.log")
    assert done["peak_rss"] > 0


def test_an_exception_is_a_failed_attempt_with_type_message_and_trace(app) -> None:
    spool = app("""
@task("t.bad", retries=0)
def bad() -> None:
    print("before")
    raise LookupError("nobody is there")
""")
    failed = spool.end(spool.submit("t.bad", retries=0))
    error = failed["error"]
    assert (failed["event"], error["type"], error["message"]) == (
        "failed", "LookupError", "nobody is there",
    )  # fmt: skip
    assert "in bad" in error["trace"]
    assert "spool/worker" not in error["trace"]
    assert spool.log(failed["id"]) == b"before\n"


def test_a_worker_stays_warm_and_keeps_the_logs_of_its_attempts_apart(app) -> None:
    spool = app("""
@task("t.pid")
def pid(word: str) -> int:
    print(word)
    return os.getpid()
""", concurrency=1)  # fmt: skip
    ids = [spool.submit("t.pid", args={"word": f"w{n}"}) for n in range(20)]
    ends = [spool.end(task_id) for task_id in ids]
    assert len({end["result"] for end in ends}) == 1
    for n, task_id in enumerate(ids):
        assert spool.log(task_id) == f"w{n}\n".encode()


def test_workers_come_for_what_waits_up_to_the_concurrency(app) -> None:
    spool = app("""
@task("t.meet")
def meet(me: int) -> int:
    note("here", me)
    while len(open(f"{NOTES}/here").readlines()) < 3:
        time.sleep(0.01)
    return os.getpid()
""", more="concurrency = 8\n", concurrency=3)  # fmt: skip
    ends = [spool.end(t) for t in [spool.submit("t.meet", args={"me": n}) for n in range(3)]]
    assert len({end["result"] for end in ends}) == 3


def test_many_workers_need_no_higher_limit_of_descriptors(
    spool_at: Callable[[str], Live], tmp_path: Path
) -> None:
    write(tmp_path, """
@task("t.files")
def files() -> int:
    note("here")
    while len(open(f"{NOTES}/here").readlines()) < 20:
        time.sleep(0.05)
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
""")  # fmt: skip
    spool = spool_at("concurrency = 20\n" + python(tmp_path, concurrency=20))
    spool.process = spool.spoold(before=("prlimit", "--nofile=64:4096"))
    ids = [spool.submit("t.files") for _ in range(20)]
    assert {spool.end(task_id)["result"] for task_id in ids} == {64}


def test_applications_do_not_share_workers(spool_at: Callable[[str], Live], tmp_path: Path) -> None:
    write(tmp_path, '@task("t.pid")\ndef pid() -> int:\n    return os.getpid()\n')
    write(tmp_path, '@task("u.pid")\ndef pid() -> int:\n    return os.getpid()\n', "other.py")
    spool = spool_at(python(tmp_path) + python(tmp_path, "u.*", python="other")).start()
    first, second = (spool.end(spool.submit(name))["result"] for name in ("t.pid", "u.pid"))
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert first != second


def test_the_death_of_a_worker_is_one_crashed_attempt(app) -> None:
    spool = app("""
@task("t.die")
def die() -> str:
    if current().attempt == 1:
        print("going", flush=True)
        os._exit(3)
    return "alive"
""")
    task_id = spool.submit("t.die")
    assert spool.end(task_id)["result"] == "alive"
    first = spool.records(task_id)[0]
    assert (first["outcome"], first["error"]["type"]) == ("crashed", "crashed")
    assert "exit 3" in first["error"]["message"]
    assert spool.log(task_id) == b"going\n"


def test_a_task_that_kills_its_worker_again_and_again_is_held_as_poison(app) -> None:
    spool = app("""
@task("t.segv")
def segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
@task("t.ok")
def ok() -> str:
    return "fine"
""")
    task_id = spool.submit("t.segv")
    assert spool.entry(task_id, "held").why == "poison"
    assert [r["outcome"] for r in spool.records(task_id)] == ["crashed"] * 3
    assert "SIGSEGV" in spool.records(task_id)[0]["error"]["message"]
    assert spool.end(spool.submit("t.ok"))["result"] == "fine"


def test_a_timeout_is_an_exception_inside_first(app) -> None:
    spool = app("""
@task("t.slow")
def slow() -> None:
    try:
        time.sleep(60)
    except SoftTimeout:
        print("cleaning up")
        raise
""", more='grace = "20s"\n')  # fmt: skip
    failed = spool.end(spool.submit("t.slow", timeout="200ms", retries=0))
    assert failed["outcome"] == "timeout"
    assert failed["error"]["type"] == "timeout"
    assert "in slow" in failed["error"]["trace"]
    assert spool.log(failed["id"]) == b"cleaning up\n"


def test_who_ignores_the_timeout_is_killed_when_the_grace_is_over(app) -> None:
    spool = app("""
@task("t.deaf")
def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("pid", os.getpid())
    while True:
        time.sleep(60)
""", more='grace = "200ms"\n')  # fmt: skip
    task_id = spool.submit("t.deaf", timeout="300ms", retries=0)
    failed = spool.end(task_id)
    assert failed["outcome"] == "timeout"
    assert "killed" in failed["error"]["message"]
    assert not alive(int(spool.note("pid")))


def test_a_cancel_is_an_exception_inside(app) -> None:
    spool = app("""
@task("t.long")
def long() -> None:
    note("began")
    try:
        time.sleep(60)
    except Cancelled:
        note("cancelled")
        raise
""")
    task_id = spool.submit("t.long")
    spool.note("began")
    spool.verb("cancel", task_id)
    assert spool.end(task_id)["event"] == "cancelled"
    spool.note("cancelled")


def test_what_goes_wrong_while_it_cleans_up_is_on_record(app) -> None:
    spool = app("""
@task("t.long")
def long() -> None:
    note("began")
    try:
        time.sleep(60)
    finally:
        raise OSError("the lock is not ours")
""")
    task_id = spool.submit("t.long")
    spool.note("began")
    spool.verb("cancel", task_id)
    told = spool.end(task_id)
    assert (told["event"], told["error"]["message"]) == ("cancelled", "the lock is not ours")
    assert "Cancelled" in told["error"]["trace"]


def test_a_drain_lets_tasks_finish_within_the_grace(app) -> None:
    spool = app("""
@task("t.watch")
def watch() -> str:
    note("began")
    while not current().should_stop():
        time.sleep(0.01)
    return "stopped in good order"
""")
    task_id = spool.submit("t.watch")
    spool.note("began")
    assert spool.stop() == 0
    assert spool.end(task_id)["result"] == "stopped in good order"


def test_what_a_drain_cuts_off_goes_back_without_using_an_attempt(app) -> None:
    spool = app("""
@task("t.deaf")
def deaf() -> None:
    note("began")
    time.sleep(60)
""", more='drain_grace = "100ms"\n')  # fmt: skip
    task_id = spool.submit("t.deaf")
    spool.note("began")
    assert spool.stop() == 0
    entry = spool.entry(task_id, "pending")
    assert (entry.fails, entry.lost, entry.interrupted) == (0, 0, 1)


def test_workers_die_with_spoold(app) -> None:
    spool = app("""
@task("t.long")
def long() -> None:
    note("pid", os.getpid())
    time.sleep(60)
""")
    spool.submit("t.long")
    pid = int(spool.note("pid"))
    spool.kill9()
    until(lambda: not alive(pid), "the worker is gone")


def test_outcomes_raised_and_returned(app) -> None:
    spool = app("""
@task("t.how")
def how(what: str) -> object:
    first = current().attempt == 1
    match what:
        case "retry":
            if first: raise Retry("not yet", after="1ms")
        case "returned":
            if first: return Retry(after=0)
        case "fail": raise Fail("never")
        case "snooze":
            if first: raise Snooze(after="1ms")
        case "cancel": raise Cancelled("not wanted any more")
    return current().attempt
""")
    ids = {
        w: spool.submit("t.how", args={"what": w})
        for w in ("retry", "returned", "fail", "snooze", "cancel")
    }
    ends = {what: spool.end(task_id) for what, task_id in ids.items()}
    assert (ends["retry"]["result"], ends["returned"]["result"]) == (2, 2)
    assert spool.records(ids["retry"])[0]["error"]["message"] == "not yet"
    assert (ends["fail"]["event"], ends["fail"]["attempt"]) == ("failed", 1)
    assert ends["snooze"]["result"] == 2
    assert spool.records(ids["snooze"])[0]["outcome"] == "snoozed"
    assert spool.entry(ids["snooze"], "done").fails == 0
    assert ends["cancel"]["event"] == "cancelled"


def test_the_policy_of_a_task_says_which_exceptions_are_tried_again(app) -> None:
    spool = app("""
@task("t.only", retry_on=[OSError])
def only(): raise ValueError("no")
@task("t.not", fail_on=[LookupError])
def not_(): raise KeyError("no")
@task("t.again", retry_on=[OSError])
def again():
    if current().attempt == 1: raise TimeoutError("later")
    return "ok"
""")
    only, no, again = (spool.submit(f"t.{n}") for n in ("only", "not", "again"))
    assert (spool.end(only)["event"], spool.end(only)["attempt"]) == ("failed", 1)
    assert (spool.end(no)["event"], spool.end(no)["attempt"]) == ("failed", 1)
    assert spool.end(again)["result"] == "ok"


def test_progress_and_checkpoints(app) -> None:
    spool = app("""
@task("t.walk")
def walk() -> list[int]:
    context = current()
    done = context.last_checkpoint or []
    for n in range(len(done), 4):
        done.append(n)
        context.checkpoint(done)
        context.progress(n / 4, f"step {n}")
        if n == 1 and context.attempt == 1:
            os._exit(1)
    return [context.attempt, *done]
""")
    task_id = spool.submit("t.walk", notify="boss")
    assert spool.end(task_id, "boss")["result"] == [2, 0, 1, 2, 3]
    told = spool.event("progress", task_id, "boss")
    assert (told["percent"], told["note"]) == (0, "step 0")


def test_coroutines_share_a_worker_and_keep_their_logs(app) -> None:
    spool = app("""
@task("t.meet")
async def meet(me: int) -> int:
    note("here", me)
    print("I am", me)
    while len(open(f"{NOTES}/here").readlines()) < 3:
        await asyncio.sleep(0.01)
    print("bye", me)
    return os.getpid()
""", more="concurrency = 1\n")  # fmt: skip
    ids = [spool.submit("t.meet", args={"me": n}) for n in range(3)]
    ends = [spool.end(t) for t in ids]
    assert len({end["result"] for end in ends}) == 1
    for n, task_id in enumerate(ids):
        assert spool.log(task_id) == f"I am {n}\nbye {n}\n".encode()


def test_a_coroutine_that_takes_too_long_is_cancelled_alone(app) -> None:
    spool = app("""
@task("t.nap")
async def nap(long: float) -> str:
    note("here")
    await asyncio.sleep(long)
    return "rested"
""", more="concurrency = 3\n")  # fmt: skip
    slow = spool.submit("t.nap", args={"long": 60.0}, timeout="500ms", retries=0)
    quick = spool.submit("t.nap", args={"long": 1.0})
    assert spool.end(slow)["outcome"] == "timeout"
    assert spool.end(quick)["result"] == "rested"


def test_a_coroutine_that_does_not_end_is_killed_and_costs_those_beside_it_nothing(app) -> None:
    spool = app("""
@task("t.block")
async def block() -> None:
    time.sleep(600)
@task("t.nap")
async def nap() -> int:
    note("here")
    await asyncio.sleep(1)
    return os.getpid()
""", more='poison_after = 1\ngrace = "100ms"\n')  # fmt: skip
    beside = spool.submit("t.nap")
    spool.note("here")
    rude = spool.submit("t.block", timeout="300ms", retries=0)
    assert spool.end(rude)["outcome"] == "timeout"
    end = spool.end(beside)
    assert (end["event"], end["attempt"]) == ("done", 2)
    first, _ = spool.records(beside)
    assert (first["outcome"], first["error"]["type"]) == ("lost", "interrupted")


def test_of_coroutines_that_die_together_the_one_that_does_it_is_held_and_no_other(app) -> None:
    spool = app("""
@task("t.good")
async def good() -> None:
    note("here")
    while not os.path.exists(f"{NOTES}/over"):
        await asyncio.sleep(0.01)
    if current().attempt > 1:
        try:
            os.mkdir(f"{NOTES}/snoozed")  # one alone makes it
        except FileExistsError:
            return
        raise Snooze(after=0)
@task("t.bad")
async def bad() -> None:
    os._exit(1)
""", more="poison_after = 2\n")  # fmt: skip
    good = [spool.submit("t.good") for _ in range(7)]
    until(lambda: len(spool.lines("here")) == 7, "all have begun")
    bad = spool.submit("t.bad")
    held = spool.entry(bad, "held")
    assert (held.why, held.lost, held.fails) == ("poison", 2, 0)
    *together, _, last = spool.records(bad)
    assert [r["outcome"] for r in together] == ["crashed"] * len(together)
    assert "beside it" in together[0]["error"]["message"]
    assert "died: exit 1, for the 2. time" in last["error"]["message"]
    until(lambda: all(spool.entry(one, "running") for one in good), "the others run again")
    entries = [spool.entry(one, "running") for one in good]
    assert {entry.lost for entry in entries} == {0}
    assert all(0 < entry.among <= 4 for entry in entries)
    (spool.notes / "over").touch()
    assert {spool.end(one)["event"] for one in good} == {"done"}
    assert min(spool.entry(one, "done").among for one in good) == 0, "one was snoozed"


def test_arguments_that_do_not_fit_are_refused_by_name_before_it_runs(app) -> None:
    spool = app("""
@task("t.typed")
def typed(count: int) -> None:
    note("ran")
""")
    failed = spool.end(spool.submit("t.typed", args={"count": "many"}))
    assert (failed["event"], failed["attempt"]) == ("failed", 1)
    assert "args.count" in failed["error"]["message"]
    assert spool.lines("ran") == []
