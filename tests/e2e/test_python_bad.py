"""Whatever a Python task does, it ends as one recorded attempt with a clear error, and others go on."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import alive, handler, until
from tests.e2e.test_python import app, python, write  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from pathlib import Path


OK = """
@task("t.ok")
def ok() -> str:
    return "fine"
"""
CASES = {
    "an exception that no other program can import": ("""
def run():
    class Mine(Exception): ...
    raise Mine("local")
""", "Mine", "local"),
    "an exception whose str() raises": ("""
class Rude(Exception):
    def __str__(self): raise RuntimeError("no")
def run(): raise Rude()
""", "Rude", "its str() raised RuntimeError"),
    "an exception whose str() is no text": ("""
class Odd(Exception):
    def __str__(self): return 7
def run(): raise Odd()
""", "Odd", "its str() raised TypeError"),
    "an exception with a message of megabytes": ("""
def run(): raise ValueError("x" * 50_000_000)
""", "ValueError", "xxx..."),
    "an exception with half of a surrogate pair": ("""
def run(): raise ValueError("\\ud800 and \\x00")
""", "ValueError", "\\ud800 and \\0"),
    "a result that is no JSON": ("def run(): return object()", "result", "not JSON"),
    "a result with NaN in it": ("def run(): return [1.0, float('nan')]", "result", "NaN"),
    "a result of 200 MB": ("def run(): return 'x' * 200_000_000", "result", "result_limit"),
    "a result that holds itself": ("""
def run():
    a = []
    a.append(a)
    return a
""", "result", "not JSON"),
    "sys.exit": ("def run(): sys.exit(3)", "SystemExit", "3"),
    "a keyboard interrupt": ("def run(): raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    "endless recursion": ("def run(): return run()", "RecursionError", "recursion"),
    "os._exit": ("def run(): os._exit(0)", "crashed", "exit 0"),
    "a segmentation fault": ("def run(): ctypes.string_at(0)", "crashed", "SIGSEGV"),
    "a kill of its own process": ("def run(): os.kill(os.getpid(), signal.SIGKILL)", "crashed", "SIGKILL"),
    "descriptors closed": ("def run(): os.closerange(0, 1000)", "crashed", "exit 70, its line to spoold closed"),
    "words to spoold that are none": ("""
def run():
    for fd in range(3, 20):
        try: os.write(fd, b"garbage\\n")
        except OSError: pass
    time.sleep(60)
""", "crashed", "killed: it said what is no message"),
    "the class of an outcome": ("def run(): return Retry", "result", "return Retry(), not the class"),
    "a coroutine": ("""
def run():
    async def inner(): ...
    return inner()
""", "result", "a decorator below @task hides that"),
    "progress that is no number": ("""
def run(): current().progress("0.5")
""", "ValueError", "must be a number from 0 to 1, not '0.5'"),
    "a deep result": (
        "def run():\n    v = []\n    for _ in range(31): v = [v]\n    return v",
        "result", "at most 31 levels",
    ),
    "a generator": ("def run(): return (n for n in [1])", "result", "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_it_ends_as_one_recorded_attempt(app, what: str) -> None:  # noqa: F811
    source, kind, words = CASES[what]
    source = source.strip().replace("def run()", '@task("t.run")\ndef run()')
    spool = app(OK + source, more="poison_after = 1\n")
    task_id = spool.submit("t.run", retries=0)
    spool.entry(task_id, "failed", "held")
    (record,) = spool.records(task_id)
    assert record["error"]["type"] in (kind, "poison"), record["error"]
    assert words in record["error"]["message"]
    assert spool.end(spool.submit("t.ok"))["result"] == "fine"


IMPORTS = {
    "a module that is not there": (None, "ModuleNotFoundError", "apptasks"),
    "a syntax error": ("def :", "SyntaxError", "invalid syntax"),
    "an import that fails": ("import no_such_module_anywhere", "ModuleNotFoundError", "no_such_module"),
    "an exception at import": ("raise RuntimeError('not today')", "RuntimeError", "not today"),
    "sys.exit at import": ("sys.exit('bye')", "SystemExit", "bye"),
    "os._exit at import": ("os._exit(9)", "worker", "exit 9"),
    "two functions of one name": ("""
@task("t.ok")
def one(): ...
@task("t.ok")
def two(): ...
""", "Invalid", "two functions"),
    "an annotation nobody can convert": ("""
class Odd: ...
@task("t.ok")
def one(x: Nowhere): ...
""", "Invalid", "Nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPORTS)
def test_what_cannot_be_imported_is_a_failed_attempt(spool_at, tmp_path: Path, what: str) -> None:
    source, kind, words = IMPORTS[what]
    if source is not None:
        write(tmp_path, source)
    note = handler("note", "echo fine")
    spool = spool_at(note + python(tmp_path)).start()
    failed = spool.end(spool.submit("t.ok", retries=0))
    assert (failed["attempt"], failed["error"]["type"]) == (1, kind), failed["error"]
    assert words in failed["error"]["message"]
    assert spool.end(spool.submit("note"))["event"] == "done"


@pytest.mark.parametrize(("who", "attempts"), [("keeper", 1), ("worker", 2)])
def test_what_waits_while_its_worker_is_killed_has_not_failed(
    spool_at, tmp_path: Path, who: str, attempts: int
) -> None:
    slow = """
import pathlib, time
if not pathlib.Path("tried").exists():
    pathlib.Path("tried").write_text(f"{os.getpid()} {os.getppid()}\\n")
    time.sleep(60)
"""
    write(tmp_path, slow + OK)
    spool = spool_at(python(tmp_path)).start()
    task_id = spool.submit("t.ok", retries=0)
    spool.entry(task_id, "running")
    tried = tmp_path / "tried"
    until(lambda: tried.exists() and tried.read_text().endswith("\n"), "it imports")
    worker, keeper = map(int, tried.read_text().split())
    os.kill(worker if who == "worker" else keeper, signal.SIGKILL)
    ended = spool.end(task_id)
    assert (ended["event"], ended["attempt"]) == ("done", attempts)
    assert [record["outcome"] for record in spool.records(task_id)] == ["crashed", "ok"][-attempts:]


def test_what_waits_for_workers_that_are_killed_each_time_is_held(app) -> None:  # noqa: F811
    spool = app("os.kill(os.getpid(), signal.SIGKILL)", more="poison_after = 2\n")
    task_id = spool.submit("t.ok", retries=0)
    assert spool.entry(task_id, "held").why == "poison"
    said = spool.event("recurring-error", task_id)["error"]["message"]
    assert said.startswith("the worker for apptasks did not start: signal 9 (SIGKILL), for the 2. time")


def test_a_module_that_kills_the_keeper_with_each_import_is_held_and_the_rest_goes_on(
    spool_at, tmp_path: Path
) -> None:
    write(tmp_path, "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)")
    spool = spool_at(f"poison_after = 2\n{python(tmp_path)}{handler('fine', 'true')}").start()
    task_id = spool.submit("t.ok")
    assert spool.entry(task_id, "held").why == "poison"
    assert [record["outcome"] for record in spool.records(task_id)] == ["crashed"] * 2
    assert spool.end(spool.submit("fine"))["event"] == "done"


def test_whoever_asks_is_told_that_a_module_cannot_be_imported(app, tmp_path: Path) -> None:  # noqa: F811
    broken = "module apptasks cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"
    spool = app("import no_such_thing", more="concurrency = 1\n")
    task_id = spool.submit("t.ok")
    assert spool.event("retrying", task_id)["error"]["type"] == "ModuleNotFoundError"
    for asked in (["status"], ["doctor"], ["why", spool.submit("t.ok")]):
        until(lambda asked=asked: broken in spool.command(*asked, check=False), f"{asked} says it")
    write(tmp_path, OK)
    assert spool.end(task_id)["result"] == "fine"
    until(lambda: broken not in spool.command("status", check=False), "it is told no more")
    write(tmp_path, "import no_such_thing")
    spool.signal(signal.SIGHUP)
    until(
        lambda: f"{broken}; the code before it goes on" in spool.command("status", check=False),
        "status says it",
    )
    assert f"{broken}; the code before it goes on" in spool.command("doctor", check=False)
    assert spool.end(spool.submit("t.ok"))["result"] == "fine"


def test_a_worker_that_does_not_start_says_what_it_said(spool_at, tmp_path: Path) -> None:
    lame = tmp_path / "lame"
    lame.write_text("#!/bin/sh\necho some words >&2\necho no module named orjson >&2\nexit 3\n")
    lame.chmod(0o755)
    write(tmp_path, OK)
    spool = spool_at(python(tmp_path, interpreter=str(lame))).start()
    problem = spool.end(spool.submit("t.ok", retries=0))["error"]
    text = "the worker for apptasks did not start: exit 3: no module named orjson"
    assert (problem["type"], problem["message"]) == ("worker", text)
    assert text in spool.says()


def test_an_interpreter_that_is_not_there_is_a_failed_attempt(spool_at, tmp_path: Path) -> None:
    write(tmp_path, OK)
    spool = spool_at(python(tmp_path, interpreter="/no/such/python")).start()
    for _ in range(2):  # the second one waits for the next try
        failed = spool.end(spool.submit("t.ok", retries=0))
        assert "No such file" in failed["error"]["message"]


def test_a_forked_child_of_a_task_ends_by_term_without_a_word(app) -> None:  # noqa: F811
    spool = app("""
@task("t.fork")
def fork() -> int:
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(begun, 1)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
""")  # fmt: skip
    end = spool.end(spool.submit("t.fork"))
    assert (end["result"], end["log"]) == (-15, None)


def test_what_is_written_to_the_first_stdout_of_python_is_in_the_log_of_its_task(app) -> None:  # noqa: F811
    spool = app("""
@task("t.first")
def first() -> None:
    sys.__stdout__.write("to the first")
    sys.__stderr__.write(", and to stderr")
""")  # fmt: skip
    task_id = spool.submit("t.first")
    spool.end(task_id)
    assert spool.log(task_id) == b"to the first, and to stderr"


def test_who_closes_stdout_closes_it_for_no_other(app) -> None:  # noqa: F811
    spool = app("""
import io
@task("t.close")
def close() -> None:
    print("one")
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    sys.stdout.close()
    sys.stdout = sys.__stdout__
    sys.stdout.close()
    sys.stderr.close()
@task("t.say")
def say() -> None:
    print("two")
    current().logger.info("three")
""")  # fmt: skip
    ids = [spool.submit(name) for name in ("t.close", "t.say")]
    assert [spool.end(task_id)["event"] for task_id in ids] == ["done", "done"]
    assert spool.log(ids[0]) == b"one\n"
    assert spool.log(ids[1]).startswith(b"two\n")
    assert spool.log(ids[1]).endswith(b"three\n")


STREAMS = {
    "closed": ("sys.stdout = sys.stderr = io.StringIO(); sys.stdout.close()", b""),
    "none": ("sys.stdout = sys.stderr = None", b""),
    "no stream": ("sys.stdout, sys.stderr = 7, os", b""),
    "not flushed": ("sys.stdout = io.TextIOWrapper(sys.stdout.buffer); print('one')", b"one\n"),
    "detached": ("sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('one')", b"one\n"),
}


@pytest.mark.parametrize("left", STREAMS)
def test_what_a_task_leaves_as_stdout_is_no_others(app, left: str) -> None:  # noqa: F811
    source, printed = STREAMS[left]
    spool = app(f"""
import io
@task("t.plain")
def plain() -> None:
    {source}
@task("t.beside")
async def beside() -> None:
    {source}
@task("t.say")
def say() -> int:
    print("two", end="")
    sys.stderr.write("three")
    return os.getpid()
""", concurrency=1)  # fmt: skip
    pids = set()
    for name in ("t.plain", "t.beside"):
        first, second = (spool.end(spool.submit(one)) for one in (name, "t.say"))
        assert (first["event"], second["event"]) == ("done", "done")
        assert (spool.log(first["id"]) if printed else b"") == printed
        assert spool.log(second["id"]) == b"twothree"
        pids.add(second["result"])
    assert len(pids) == 1


def test_a_forked_child_that_comes_back_is_no_second_worker(app) -> None:  # noqa: F811
    spool = app(OK + """
@task("t.fork")
def fork() -> int:
    child = os.fork()
    return child
""")  # fmt: skip
    done = spool.end(spool.submit("t.fork"))
    assert done["result"] > 0
    assert len(spool.records(done["id"])) == 1
    assert spool.end(spool.submit("t.ok"))["result"] == "fine"


def test_a_forked_child_ends_as_a_program_does(app) -> None:  # noqa: F811
    spool = app("""
@task("t.fork")
def fork(how: str) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "raises":
        raise ValueError("in the child")
    if how == "exits":
        sys.exit(3)
    if how == "asks":
        current().progress(0.5)
        sys.exit(4 + current().should_stop())
@task("t.beside")
async def beside() -> int:
    return fork("raises")
""")  # fmt: skip
    ids = {
        how: spool.submit("t.fork", args={"how": how})
        for how in ("raises", "exits", "asks", "comes back")
    }
    ids["beside"] = spool.submit("t.beside")
    ended = {how: spool.end(task_id)["result"] for how, task_id in ids.items()}
    assert ended == {"raises": 1, "exits": 3, "asks": 4, "comes back": 0, "beside": 1}
    for how in ("raises", "beside"):
        assert spool.log(ids[how]).endswith(b"ValueError: in the child\n")


def test_children_it_leaves_end_with_its_worker(app) -> None:  # noqa: F811
    spool = app(OK + """
@task("t.leave")
def leave() -> list[int]:
    one = subprocess.Popen(["sleep", "1000"])
    two = subprocess.Popen(["setsid", "sleep", "1000"])
    return [one.pid, two.pid]
""")  # fmt: skip
    pids = spool.end(spool.submit("t.leave"))["result"]
    for pid in pids:
        until(lambda pid=pid: not alive(pid), "its children are gone")
    assert spool.end(spool.submit("t.ok"))["result"] == "fine"


def test_megabytes_without_a_newline_are_kept_up_to_the_limit(app) -> None:  # noqa: F811
    spool = app("""
@task("t.loud")
def loud() -> None:
    for _ in range(64):
        sys.stdout.write("x" * 100_000)
    os.system("head -c 5000000 /dev/zero")
""", more='log_limit = "1MiB"\n')  # fmt: skip
    done = spool.end(spool.submit("t.loud"))
    assert done["event"] == "done"
    log = spool.log(done["id"])
    assert log.startswith(b"x" * (1 << 20))
    assert len(log) < (1 << 20) + 100
    assert b"truncated" in log[1 << 20 :]


def test_a_worker_that_has_grown_too_big_is_replaced(app) -> None:  # noqa: F811
    spool = app("""
LEAK = []
@task("t.leak")
def leak() -> int:
    LEAK.append(b"x" * 80_000_000)
    return os.getpid()
""", concurrency=1, recycle_rss="64MiB")  # fmt: skip
    first, second = (spool.end(spool.submit("t.leak"))["result"] for _ in range(2))
    assert first != second
    until(lambda: not alive(first), "the first worker has left")


def test_a_worker_is_replaced_after_so_many_tasks(app) -> None:  # noqa: F811
    spool = app("""
@task("t.pid")
def pid() -> int:
    return os.getpid()
""", concurrency=1, recycle_tasks=3)  # fmt: skip
    ids = [spool.submit("t.pid") for _ in range(9)]
    pids = [spool.end(task_id)["result"] for task_id in ids]
    assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3, 3]


def test_spare_workers_leave(app) -> None:  # noqa: F811
    spool = app("""
@task("t.meet")
def meet(me: int) -> int:
    note("here", me)
    while len(open(f"{NOTES}/here").readlines()) < 3:
        time.sleep(0.01)
    return os.getpid()
""", more="concurrency = 3\n", idle="1s")  # fmt: skip
    pids = [spool.end(t)["result"] for t in [spool.submit("t.meet", args={"me": n}) for n in range(3)]]
    until(lambda: sum(map(alive, pids)) == 1, "one worker stays")


def test_output_at_import_is_no_log_of_a_task(app) -> None:  # noqa: F811
    spool = app('print("importing")\n' + OK)
    done = spool.end(spool.submit("t.ok"))
    assert done["log"] is None
    assert "importing" in spool.says()


def test_a_worker_whose_threads_never_end_is_killed_when_it_is_to_leave(app) -> None:  # noqa: F811
    spool = app("""
import threading
@task("t.thread")
def thread() -> int:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return os.getpid()
""", recycle_tasks=1)  # fmt: skip
    pid = spool.end(spool.submit("t.thread"))["result"]
    until(lambda: not alive(pid), "the worker is gone", within=60)


def test_a_worker_that_is_stopped_is_replaced_and_costs_no_attempt(app) -> None:  # noqa: F811
    source = """
@task("t.who")
def who() -> int:
    return os.getpid()
"""
    spool = app(source, 'grace = "100ms"\n', concurrency=1, timeout="500ms", retries=0)
    worker = spool.event("done", spool.submit("t.who"))["result"]
    os.kill(worker, signal.SIGSTOP)
    for end in [spool.end(one) for one in [spool.submit("t.who") for _ in range(3)]]:
        assert (end["event"], end["attempt"]) == ("done", 1)
        assert end["result"] != worker
    assert not alive(worker)


def test_where_there_are_descriptors_for_few_workers_these_do_all_of_it(spool_at, tmp_path: Path) -> None:
    write(tmp_path, OK)
    spool = spool_at("concurrency = 40\n" + python(tmp_path, concurrency=40))
    spool.submit_all([{"task": "t.ok"} for _ in range(40)])
    few = spool.spoold("--until-idle", before=["sh", "-c", 'ulimit -n 60; exec "$@"', "sh"])
    assert few.wait(60) == 0
    assert spool.count("done") == 40
    assert "did not start: Too many open files" in spool.says()
