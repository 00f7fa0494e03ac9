"""The daemon as a program: one for each node, its settings, its status, and when it refuses to serve."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spool.init import init
from spool.names import date_of
from spool.times import format_utc
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

NOINPUT, CANTCREAT, IOERR, TEMPFAIL, NOPERM, CONFIG = 66, 73, 74, 75, 77, 78
NOTE = handler("note", "cat > $SPOOL_RESULT")


def test_a_second_daemon_on_a_node_is_refused_and_the_first_goes_on(live: Make) -> None:
    spool = live(NOTE)
    assert spool.once() == TEMPFAIL
    assert spool.process is not None
    assert f"already runs as node 'here' (pid {spool.process.pid})" in spool.says()
    spool.event("done", spool.submit("note"))


def test_a_daemon_that_is_told_to_reload_while_it_starts_does_so(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    process = spool.process = spool.spoold()
    until((spool.root / "nodes/here.lock").exists, "it has begun")
    while not (spool.root / "nodes/here.json").exists() and process.poll() is None:
        process.send_signal(signal.SIGHUP)
    spool.event("done", spool.submit("note"))


def test_no_file_of_ours_stands_where_a_standard_stream_was_closed(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    spool.process = spool.spoold(before=closed)
    spool.event("done", spool.submit("note"))
    fds = [os.readlink(f"/proc/{spool.process.pid}/fd/{n}") for n in range(3)]
    assert fds == [os.devnull] * 3


@pytest.mark.parametrize("name", ["", "a b", "pauses", "schedules"])
def test_a_node_name_that_no_file_can_have_is_refused(spool_at: Make, name: str) -> None:
    spool = spool_at(NOTE)
    assert spool.once("--node", name) == CONFIG
    assert repr(name) in spool.says()


def test_empty_directories_that_got_lost_are_made_again(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    task_id = spool.submit("note")
    for name in ("outbox", "tmp", "pending", "journal"):
        (spool.root / name).rmdir()
    (spool.root / "pending").mkdir(mode=0o700)
    assert spool.once("--until-idle") == 0
    spool.event("done", task_id)
    assert (spool.root / "tmp").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("action", ["pause", "drain"])
@pytest.mark.parametrize("more", [{}, {"task": "note"}])
def test_until_idle_does_not_wait_for_what_is_paused(
    spool_at: Make, action: str, more: dict[str, str]
) -> None:
    spool = spool_at(NOTE + handler("other.*", "true"))
    for task, at in (("note", "+0s"), ("other.ready", "+0s"), ("other.later", "+1d")):
        spool.submit(task, at=at)
    for pattern in ("other.later", "other.ready"):
        spool.drop({"action": "pause", "task": pattern})
    spool.drop({"action": action, **more})
    assert spool.once("--until-idle") == 0
    assert list(spool.root.glob("pending/*/*/*"))
    by_name = ", a ".join(sorted([f"{action} of note", "pause of other.ready"]))
    assert f"nothing runs and a {by_name if more else action} goes on, the rest stays" in spool.says()
    assert spool.says().count("the rest stays") == 1


@pytest.mark.parametrize(
    "place", ["pending/{}", "pending/{}/medium", "done/{}", "attempts/{}", "ids/{}", "outbox/default"]
)
def test_a_file_where_a_directory_belongs_goes_out_of_the_way(spool_at: Make, place: str) -> None:
    spool = spool_at(NOTE)
    file = spool.root / place.format(date_of(time.time_ns() // 1000))
    file.parent.mkdir(exist_ok=True)
    file.write_text("x")
    done, _ = spool.submit("note"), spool.submit("note", at="+1s")
    assert spool.once("--until-idle") == 0
    spool.event("done", done)
    (kept,) = (path for path in (spool.root / "corrupt").iterdir() if "reason" not in path.name)
    assert kept.read_text() == "x"


def test_a_spool_of_its_own_that_cannot_be_made_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--until-idle"],
        env={**os.environ, "SPOOL_DIR": "", "XDG_STATE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == CANTCREAT
    place = tmp_path / "file" / "spool"
    assert done.stderr == f"spoold: cannot make a spool at {place}: a file is in the way\n"


@pytest.mark.parametrize("module", ["spool", "spoold"])
def test_a_directory_that_has_been_removed_is_no_place_to_start_from(tmp_path: Path, module: str) -> None:
    words = ["-m", module, "--spool", "spool", *(["ls"] if module == "spool" else [])]
    script = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, sys.orig_argv[:1] + {!r})"
    done = subprocess.run(
        [sys.executable, "-c", script.format(words)],
        cwd=(gone := tmp_path / "gone").mkdir() or gone,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert done.stderr == f"{module}: the current directory has been removed: cd to one that is there\n"


def test_the_daemon_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("spoold ")


def test_a_link_to_a_spool_is_refused_with_the_place_it_leads_to(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    link = spool.root.parent / "link"
    link.symlink_to(spool.root)
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "--spool", str(link), "--until-idle"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == NOPERM
    assert f"--spool {spool.root}, " in done.stderr


def test_a_format_that_is_newer_is_refused(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    (spool.root / "format").write_text("spool 2\n")
    spool.submit("note")
    assert spool.once() == NOINPUT
    assert "spool 2" in spool.says() or "format" in spool.says()
    assert len(os.listdir(spool.root / "incoming")) == 1


def test_a_directory_that_is_no_spool_is_refused(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    (spool.root / "format").unlink()
    assert spool.once() == NOINPUT


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("concurency = 3\n", ["concurency", "concurrency"]),
        ("concurrency = -1\n", ["concurrency", "-1"]),
        ('timezone = "Mars/Base"\n', ["timezone", "Mars/Base"]),
        ('[handlers.x]\nexec = "ls -l"\n', ['handlers."x".exec', "list"]),
        ("[handlers.x]\n", ['handlers."x"', "exactly one"]),
        ('[handlers.x]\nexec = ["a"]\nnotify = "b"\n', ['handlers."x"', "exactly one"]),
        ('[handlers.x]\nexec = ["a"]\ntimeot = 3\n', ["timeot", "timeout"]),
        ('[handlers.x]\npython = "m x"\n', ["python", "dotted name of a module"]),
        ("a = [\n", ["TOML"]),
    ],
)
def test_settings_that_break_a_rule_are_refused_with_the_key_named(
    spool_at: Make, toml: str, words: list[str]
) -> None:
    spool = spool_at(toml)
    for options in ([], ["--check"]):
        assert spool.once(*options) == CONFIG
    for word in ["spool.toml", *words]:
        assert word in spool.says()


def test_a_program_that_is_not_there_draws_a_warning(spool_at: Make) -> None:
    spool = spool_at(
        handler("here", "true")
        + handler("bare", exec=["no-such-program"])
        + handler("path", exec=["./no-such"], cwd="/tmp")
        + handler("own", exec=["tool"], env={"PATH": "/opt/x"})
    )
    assert spool.once("--check") == 0
    lines = [line for line in spool.says().splitlines() if "no program" in line]
    assert [line.partition(" runs ")[0].rpartition("handlers.")[2] for line in lines] == [
        '"bare"]', '"path"]', '"own"]'
    ]  # fmt: skip
    assert "on PATH /opt/x" in lines[2]


def test_a_setting_that_counts_from_the_next_start_on_is_named_when_it_changes(live: Make) -> None:
    spool = live(NOTE)
    spool.settings('no_new_privs = false\nlease = "1h"\n' + NOTE)
    until(lambda: "started again for lease and no_new_privs" in spool.says(), "it says so")


def test_broken_settings_do_not_replace_those_in_use(live: Make) -> None:
    spool = live(NOTE)
    spool.settings("nonsense = 1\n")
    status = spool.status(lambda s: "settings_error" in s, "status shows the mistake")
    assert "nonsense" in status["settings_error"]
    assert spool.event("done", spool.submit("note", args=1))["result"] == 1
    spool.settings(handler("note", "echo 2 > $SPOOL_RESULT"))
    spool.status(lambda s: "settings_error" not in s, "the mistake is mended")
    assert spool.event("done", spool.submit("note", args=1))["result"] == 2


@pytest.mark.parametrize("how", ["rename", "in place", "signal"])
def test_a_task_without_a_handler_waits_for_one_and_no_attempt_is_used(live: Make, how: str) -> None:
    spool = live(handler("other", "true"))
    task_id = spool.submit("note", args=3)
    assert spool.entry(task_id, "held").why == "no-handler"
    if how == "in place":
        with (spool.root / "spool.toml").open("a") as file:
            file.write(NOTE)
    else:
        spool.settings(NOTE)
    if how == "signal":
        spool.signal(signal.SIGHUP)
    told = spool.event("done", task_id)
    assert (told["attempt"], told["result"]) == (1, 3)


def test_a_reload_takes_up_what_the_machine_has_learnt_of_zones(
    spool_at: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(like: str) -> None:
        data = (resources.files("tzdata") / "zoneinfo" / like).read_bytes()
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").rename(tmp_path / "Here")

    def noon() -> str:
        return format_utc(spool.entry(spool.submit("note", at="2090-01-01 12:00"), "pending").time)

    monkeypatch.setenv("PYTHONTZPATH", str(tmp_path))
    install("UTC")
    spool = spool_at('timezone = "Here"\n' + NOTE)
    spool.start()
    assert noon() == "2090-01-01T12:00:00.000000Z"
    install("Asia/Tokyo")
    assert spool.spoold("--reload").wait() == 0
    assert noon() == "2090-01-01T03:00:00.000000Z"


def test_a_task_without_a_handler_goes_on_after_a_restart_with_one(live: Make) -> None:
    spool = live()
    ids = spool.submit_all([{"task": "note", "args": n} for n in range(50)])
    spool.wait_count(50, "held")
    spool.kill9()
    spool.settings(NOTE)
    spool.start()
    for task_id in ids:
        spool.event("done", task_id)


def test_a_handler_that_goes_away_parks_what_waits_for_it(live: Make) -> None:
    spool = live(NOTE)
    spool.do({"action": "pause", "task": "note"})
    task_id = spool.submit("note")
    spool.entry(task_id, "pending")
    spool.settings(handler("other", "true"))
    spool.status(lambda s: s["in_memory"]["medium"] >= 0, "it still serves")
    spool.do({"action": "resume", "task": "note"})
    assert spool.entry(task_id, "held").why == "no-handler"


def test_a_directory_that_is_named_alone_was_meant_as_the_spool(spool_at: Make) -> None:
    spool = spool_at()
    for module, words in (("spoold", ()), ("spool", ("status",))):
        done = subprocess.run(
            [sys.executable, "-m", module, *words, str(spool.root)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 64
        assert f"did you mean --spool {spool.root}?" in done.stderr


def test_a_run_from_cron_that_finds_the_one_before_at_work_leaves_it_to_that_quietly(
    spool_at: Make,
) -> None:
    spool = spool_at(handler("a", "true")).start("-q")
    assert spool.once("--until-idle", "--quiet") == TEMPFAIL
    assert spool.says() == ""
    assert spool.once("--until-idle") == TEMPFAIL
    assert "served as node 'here' already" in spool.says()


def test_until_idle_runs_what_is_ready_waits_for_what_it_started_and_ends(spool_at: Make) -> None:
    spool = spool_at(
        handler("note", "sleep 0.2; cat > $SPOOL_RESULT")
        + handler("fail", "exit 1", backoff={"base": "30d", "max": "30d"})
    )
    ready = [spool.submit("note", args=n) for n in range(5)]
    later = spool.submit("note", at="+1h")
    again = spool.submit("fail")
    spool.put("bad.json", b"[]")
    assert spool.once("--until-idle") == 0
    for task_id in ready:
        assert spool.event("done", task_id, within=0)
    assert spool.entry(later, "pending", within=0)
    assert spool.event("retrying", again, within=0)
    assert len(spool.reasons()) == 1
    assert spool.once("--until-idle") == 0  # with nothing to do, too


def test_until_idle_with_an_incomplete_file_decides_about_it_first(spool_at: Make) -> None:
    spool = spool_at("settle = 0.3\n" + NOTE)
    spool.put("half.json", b'{"task": "no')
    assert spool.once("--until-idle") == 0
    assert len(spool.reasons()) == 1


def test_status_tells_what_runs_what_comes_next_and_what_was_done(live: Make) -> None:
    spool = live(handler("stay", "while [ ! -e $NOTES/open ]; do sleep 0.02; done") + NOTE)
    spool.event("done", spool.submit("note"))
    running = spool.submit("stay")
    later = spool.submit("note", at="+1h")
    status = spool.status(lambda s: s["running"] and s["next"], "status shows both")
    assert status["running"][0]["id"] == running
    assert status["next"]["id"] == later
    assert status["counts"]["done"] == 1
    assert status["pid"] == spool.process.pid  # type: ignore[union-attr]
    (spool.notes / "open").touch()
    spool.event("done", running)
    spool.status(lambda s: s["counts"]["done"] == 2, "and it is counted")


def test_a_daemon_with_nothing_to_do_sleeps(live: Make) -> None:
    spool = live(NOTE)
    spool.submit("note", at="+1h", deadline="+3h")
    spool.do({"action": "pause", "task": "x", "until": "+2h"})
    spool.event("done", spool.submit("note"))
    assert spool.process is not None
    stat = Path(f"/proc/{spool.process.pid}/stat")

    def ticks() -> int:
        words = stat.read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12])

    def quiet() -> bool:
        """Not one clock tick of work while we look a hundred times."""
        before = ticks()
        with pytest.raises(AssertionError):
            until(lambda: None, "half a second passes", within=0.5)
        return ticks() == before

    until(quiet, "it sleeps")


def test_the_spool_is_found_by_a_path_with_strange_characters(tmp_path: Path) -> None:
    place = tmp_path / "a [s]pool* %s\n'é"
    place.mkdir()
    spool = Live(place, handler("note", "pwd >> $SPOOL_RESULT.x; echo 1 > $SPOOL_RESULT"))
    spool.start()
    try:
        assert spool.event("done", spool.submit("note"))["result"] == 1
    finally:
        spool.close()


def test_what_it_says_takes_one_line_whatever_the_name_of_its_spool(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[31m\nb"
    place.mkdir()
    spool = Live(place).start()
    assert spool.stop() == 0
    assert "serving " + str(tmp_path) + "/a\\x1b[31m\\x0ab" in spool.says()
    spool.settings("x = 1")
    assert spool.once() == CONFIG
    assert "is no setting" in spool.says()
    assert all(line.startswith("spoold: ") for line in spool.says().splitlines())


def test_a_spool_without_its_incoming_is_served_no_more_until_a_start_makes_it_again(live: Make) -> None:
    spool = live(NOTE)
    shutil.rmtree(spool.root / "incoming")
    spool.signal(signal.SIGHUP)
    assert spool.wait_exit() == os.EX_TEMPFAIL
    assert (
        f"{spool.root}/incoming was renamed, removed or mounted over: start spoold again" in spool.says()
    )
    assert spool.start().event("done", spool.submit("note"))


@pytest.mark.parametrize("how", ["renamed", "another in its place", "removed"])
def test_a_spool_that_is_elsewhere_is_served_no_more(tmp_path: Path, how: str) -> None:
    live = Live(tmp_path, handler("note", "echo 1 > $SPOOL_RESULT") + handler("long", "sleep 600"))
    running = live.start().submit("long")
    live.entry(running, "running")
    other = tmp_path / "other"
    live.signal(signal.SIGSTOP)  # it sees all of it at once
    live.root.rename(other)
    if how == "removed":
        shutil.rmtree(other)
    else:
        if how == "another in its place":
            init(str(live.root))
        (other / "incoming" / "a.json").write_text('{"task": "note"}')
    live.signal(signal.SIGHUP)  # anything wakes it
    live.signal(signal.SIGCONT)
    assert live.wait_exit() == os.EX_TEMPFAIL
    said = live.says()
    assert f"{live.root} was renamed, removed or mounted over: start spoold again" in said
    assert "Traceback" not in said
    if how != "removed":
        assert not list(other.glob("done/*/*"))
        assert [running in path.name for path in other.glob("pending/*/*/*")].count(True) == 1


def test_a_limit_that_is_too_low_is_said_in_one_line(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    spool.submit("note", args="x" * 10_000)  # in memory there is no log, which is longer
    limited = 'ulimit -f 8; PYTHONDONTWRITEBYTECODE=1 exec "$@"'  # Python would keep half a module
    process = spool.spoold("--until-idle", before=["sh", "-c", limited, "sh"])
    assert process.wait(60) == IOERR
    said = [line for line in spool.says().splitlines() if ": serving " not in line]
    assert len(said) == 1
    assert "ulimit" in said[0]


def test_a_pipe_that_nobody_reads_stops_neither_the_queue_nor_the_end(tmp_path: Path) -> None:
    live = Live(tmp_path, handler("note", "echo 1 > $SPOOL_RESULT"))
    live.errors = tmp_path / "pipe"
    os.mkfifo(live.errors)
    pipe = os.open(live.errors, os.O_RDWR | os.O_NONBLOCK)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"x" * size)
    live.start()
    live.errors = tmp_path / "nothing"
    assert live.end(live.submit("note"))["event"] == "done"
    assert live.stop() == 0
    os.close(pipe)
