"""A handler that is a process: what it gets, what its end means, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spool import Spool, layout
from tests.e2e.live import Live, alive, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]


def test_args_come_on_standard_input_as_one_line_of_json(live: Make) -> None:
    spool = live(handler("take", "cat > $NOTES/args"))
    args = {"text": '漢字 " \\ \n $HOME `id` %s', "deep": [[1.5, None, True]], "big": "x" * 200_000}
    spool.submit("take", args=args)
    until((spool.notes / "args").exists, "it ran")
    assert json.loads(spool.note("args")) == args


def test_what_the_settings_let_in_runs_and_is_told_of_however_large(live: Make) -> None:
    spool = live('max_action_bytes = "32MiB"\n' + handler("take", "wc -c"))
    size = 17 << 20
    task_id = spool.submit("take", args="x" * size)
    with Spool(spool.root) as client:
        assert len(client.wait(task_id, 30)["args"]) == size
        assert next(client.outbox(timeout=30)).id == task_id  # a moment after its record


def test_the_environment_is_clean_but_for_what_is_promised(live: Make) -> None:
    spool = live(handler("env", "env -0 > $NOTES/env; echo > $NOTES/done", env={"COLOUR": "blue"}))
    task_id = spool.submit("env", deadline="+1h", trace=f"00-{'a' * 32}-{'b' * 16}-01", version="1.4")
    spool.note("done")
    env = dict(item.split("=", 1) for item in (spool.notes / "env").read_text().split("\0") if item)
    assert env["SPOOL_ID"] == task_id
    assert (env["SPOOL_TASK"], env["SPOOL_ATTEMPT"], env["SPOOL_VERSION"]) == ("env", "1", "1.4")
    assert env["SPOOL_DIR"] == str(spool.root)
    assert env["SPOOL_DEADLINE"].endswith("Z")
    assert env["TRACEPARENT"].startswith("00-aaa")
    assert env["COLOUR"] == "blue"
    assert "SECRET_OF_THE_CALLER" not in env
    assert "PYTHONPATH" not in env
    known = {
        "HOME",
        "USER",
        "LOGNAME",
        "PATH",
        "LANG",
        "SHELL",
        "TZ",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
        "COLOUR",
        "TRACEPARENT",
    }
    assert {name for name in env if not name.startswith("SPOOL_")} <= known


def test_a_handler_runs_where_it_is_told_to_and_has_no_foreign_descriptors(live: Make) -> None:
    spool = live(
        handler(
            "look",
            "pwd; ls -l /proc/self/fd | wc -l; umask; ps -o sid= -p $$ | grep -qw $$ && echo own",
            cwd="/usr",
        )
    )
    task_id = spool.submit("look")
    spool.event("done", task_id)
    assert spool.log(task_id).split() == [
        b"/usr",
        b"5",
        b"0077",
        b"own",
    ]  # 0, 1, 2, the directory itself, a total


def test_what_it_prints_on_either_stream_is_in_the_log(live: Make) -> None:
    spool = live(handler("talk", "echo one; echo two >&2; printf 'three\\377\\033[31m'"))
    task_id = spool.submit("talk")
    told = spool.event("done", task_id)
    assert (spool.root / told["log"]).read_bytes() == b"one\ntwo\nthree\xff\x1b[31m"


def test_a_log_is_cut_at_its_limit_and_says_so(live: Make) -> None:
    spool = live(
        "log_limit = 10000\n" + handler("flood", "head -c 50000000 /dev/zero | tr '\\0' x; echo end")
    )
    task_id = spool.submit("flood")
    spool.event("done", task_id)
    log = spool.log(task_id)
    assert log.startswith(b"x" * 5000)
    assert len(log) < 11_000


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("""echo '{"a": [1, "é"]}' > $SPOOL_RESULT""", {"a": [1, "é"]}),
        ("echo 3 > $SPOOL_RESULT.x; mv $SPOOL_RESULT.x $SPOOL_RESULT", 3),
        ("true > $SPOOL_RESULT", None),
        ("true", None),
    ],
)
def test_the_result_is_what_it_writes_to_the_result_file(live: Make, script: str, result: object) -> None:
    spool = live(handler("make", script))
    assert spool.event("done", spool.submit("make"))["result"] == result


@pytest.mark.parametrize(
    ("script", "rule"),
    [
        ("echo '{\"a\":' > $SPOOL_RESULT", "must be JSON"),
        ("echo 12345678901234567890123 > $SPOOL_RESULT", "an integer within 64 bits"),
        ('echo \'{"a":1,"a":2}\' > $SPOOL_RESULT', "a: must be given once, not twice"),
        (f"echo '{'[' * 32 + ']' * 32}' > $SPOOL_RESULT", "result: must be nested at most 31 levels"),
        ("head -c 3000 /dev/zero | tr '\\0' 1 > $SPOOL_RESULT", "larger than 2000"),
        ("ln -s /etc/passwd $SPOOL_RESULT", "cannot be read"),
        ("mkfifo $SPOOL_RESULT", "cannot be read"),
        ("mkdir $SPOOL_RESULT", "cannot be read"),
    ],
)
def test_a_bad_result_fails_the_attempt_and_says_why(live: Make, script: str, rule: str) -> None:
    spool = live("result_limit = 2000\nretries = 0\n" + handler("make", script))
    task_id = spool.submit("make")
    told = spool.event("failed", task_id)
    assert told["error"]["type"] == "result"
    assert rule in told["error"]["message"]
    assert (told["result"], told["outcome"]) == (None, "error")
    spool.kill9()
    spool.start()
    assert list((spool.root / "running" / spool.node).glob(".*.result")) == []
    spool.event("failed", spool.submit("make"))


PERMANENT = [64, 65, 66, 69, 70, 76, 77, 78]
AGAIN = [1, 2, 67, 68, 71, 72, 73, 74, 75, 126, 127, 255]


def test_exit_statuses_mean_what_sysexits_says(live: Make) -> None:
    spool = live(handler("exit", "read code; echo code $code; exit $code", retries=1, backoff=0))
    ids = {code: spool.submit("exit", args=code) for code in PERMANENT + AGAIN}
    for code, task_id in ids.items():
        told = spool.event("failed", task_id)
        assert (told["exit"], told["signal"], told["outcome"]) == (code, None, "error")
        assert told["error"]["type"] == f"exit {code}"
        assert told["error"]["message"] == f"code {code}"
        assert told["attempt"] == (1 if code in PERMANENT else 2), f"attempts of exit {code}"
        assert len(spool.events("default", "retrying", task_id)) == told["attempt"] - 1


def test_death_by_a_signal_is_a_failed_attempt(live: Make) -> None:
    spool = live(handler("die", "echo last words; kill -SEGV $$", retries=0))
    told = spool.event("failed", spool.submit("die"))
    assert (told["exit"], told["signal"]) == (None, signal.SIGSEGV)
    assert told["error"]["type"] == f"signal {signal.SIGSEGV:d}"


def test_a_handler_that_takes_too_long_is_asked_to_end_then_killed(live: Make) -> None:
    script = "trap 'echo TERM > $NOTES/heard' TERM; echo ready; while :; do sleep 0.1; done"
    spool = live("grace = 0.3\n" + handler("slow", script, timeout=0.5, retries=0))
    told = spool.event("failed", spool.submit("slow"))
    assert spool.note("heard") == "TERM"
    assert (told["outcome"], told["signal"]) == ("timeout", signal.SIGKILL)
    assert told["error"]["type"] == "timeout"
    assert 0.3 <= told["seconds"] < 5  # the time-out counts from the claim, these from the start


def test_a_handler_that_obeys_the_term_is_not_killed_and_has_timed_out_all_the_same(live: Make) -> None:
    spool = live(
        "grace = 60\n" + handler("slow", "trap 'exit 0' TERM; sleep 60 & wait", timeout=0.3, retries=0)
    )
    told = spool.event("failed", spool.submit("slow"))
    assert (told["outcome"], told["exit"]) == ("timeout", 0)


TREE = (
    "touch $NOTES/pids; "  # or `wc` has nothing to count, and the script is over before it began
    "(sleep 600 & echo $! >> $NOTES/pids; wait) & "
    "setsid sh -c 'echo $$ >> $NOTES/pids; sleep 600' & "
    'setsid sh -c \'(trap "" TERM; env -i sh -c "sleep 601; true") & echo $! >> $NOTES/pids\' & '
)


@pytest.mark.parametrize(
    "end", ["wait", "while [ $(wc -l < $NOTES/pids) -lt 3 ]; do sleep 0.01; done; exit 0"]
)
def test_the_whole_tree_of_a_handler_ends_with_it(live: Make, end: str) -> None:
    spool = live("grace = 0.1\n" + handler("tree", TREE + end, timeout=3, retries=0))
    spool.end(spool.submit("tree"))
    pids = [int(line) for line in spool.lines("pids")]
    assert len(pids) == 3
    assert [pid for pid in pids if alive(pid)] == []


def test_an_ad_hoc_command_runs_without_a_shell(live: Make) -> None:
    spool = live()
    argv = ["/usr/bin/printf", "%s|", "$HOME", "`id`", "a b;c", "*"]
    task_id = spool.submit("spool.run", args={"argv": argv, "cwd": "/tmp", "env": {"A": "1"}})
    spool.event("done", task_id)
    assert spool.log(task_id) == b"$HOME|`id`|a b;c|*|"


def test_ad_hoc_commands_can_be_forbidden(live: Make) -> None:
    spool = live("allow_run = false\n" + handler("*", "true"))
    task_id = spool.submit("spool.run", args={"argv": ["/bin/true"]})
    assert spool.entry(task_id, "held").why == "no-handler"
    assert "allow_run" in spool.command("why", task_id)


@pytest.mark.parametrize("command", [["/no/such/program"], ["no-such-program"], ["/etc/passwd"], ["/"]])
def test_a_command_that_cannot_be_started_fails_the_attempt_by_name(
    live: Make, command: list[str]
) -> None:
    spool = live(handler("gone", exec=command, retries=0))
    told = spool.event("failed", spool.submit("gone"))
    assert told["error"]["type"] == "spawn"
    assert command[0] in told["error"]["message"]


def test_no_more_handlers_run_at_once_than_allowed(live: Make) -> None:
    script = "echo + >> $NOTES/runs; sleep 0.05; echo - >> $NOTES/runs"
    spool = live("concurrency = 5\n" + handler("a", script, concurrency=2) + handler("b", script))
    spool.submit_all([{"task": "ab"[n % 2], "args": n} for n in range(40)])
    most = 0
    lines = spool.wait_lines("runs", 80)
    running = 0
    for line in lines:
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert 3 <= most <= 5


def test_the_limit_of_one_handler_holds_nobody_else_up(live: Make) -> None:
    gate = "while [ ! -e $NOTES/open ]; do sleep 0.02; done"
    spool = live("concurrency = 4\n" + handler("gate", gate, concurrency=1) + handler("free", "true"))
    gated = spool.submit_all([{"task": "gate", "priority": "high", "args": n} for n in range(5)])
    spool.wait_count(1, "running")
    spool.event("done", spool.submit("free", priority="low"))
    held_back = spool.status(lambda s: s["held_back"], "status says what is held back")["held_back"]
    assert held_back[0]["ready"] == 4
    assert "gate runs 1 already" in held_back[0]["why"]
    (spool.notes / "open").touch()
    for task_id in gated:
        spool.event("done", task_id)


def test_what_a_handler_used_is_on_record(live: Make) -> None:
    spool = live(handler("use", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 0.2"))
    told = spool.event("done", spool.submit("use"))
    assert told["peak_rss"] > 15_000_000
    assert 0.2 <= told["seconds"] < 10
    assert told["started_at"] < told["ended_at"]


def test_the_most_specific_handler_wins(live: Make) -> None:
    spool = live(
        handler("*", "echo '\"any\"' > $SPOOL_RESULT")
        + handler("thumb.*", "echo '\"thumb\"' > $SPOOL_RESULT")
        + handler("thumb.make", "echo '\"make\"' > $SPOOL_RESULT")
    )
    for task, result in (("thumb.make", "make"), ("thumb.makes", "thumb"), ("thumb", "any")):
        assert spool.event("done", spool.submit(task))["result"] == result


def test_the_handlers_of_a_daemon_are_not_children_that_hold_its_files(live: Make) -> None:
    spool = live(
        handler("stay", "echo $PPID > $NOTES/keeper; while [ ! -e $NOTES/open ]; do sleep 0.02; done")
    )
    spool.submit("stay")
    keeper = int(spool.note("keeper"))
    assert spool.process is not None
    assert keeper != spool.process.pid
    opened = {os.readlink(p) for p in Path(f"/proc/{keeper}/fd").iterdir()}
    assert not [name for name in opened if "inotify" in name or "timerfd" in name]
    (spool.notes / "open").touch()


def test_a_keeper_that_stands_still_does_not_hold_up_a_stop(live: Make) -> None:
    still = handler("still", "kill -STOP $PPID; echo $$ > $NOTES/pid; exec sleep 1000")
    spool = live('grace = "50ms"\ndrain_grace = "50ms"\n' + still)
    task = spool.submit("still")
    pid = int(spool.note("pid"))
    assert spool.stop() == 0
    assert not alive(pid)
    assert spool.entry(task, "pending").lost == 1
    assert "stands still" in spool.says()


def test_what_the_machine_has_no_process_for_waits_and_has_not_failed(live: Make) -> None:
    spool = live(handler("a", "true", retries=0))
    spool.event("done", spool.submit("a"))
    assert spool.process is not None
    daemon = spool.process.pid
    keeper = int(Path(f"/proc/{daemon}/task/{daemon}/children").read_text())
    most = len(os.listdir(f"/proc/{keeper}/fd"))
    before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (most, before[1]))
    ids = [spool.submit("a") for _ in range(5)]
    shut = spool.status(lambda s: not s["gate"]["open"], "the gate is shut")["gate"]
    assert "the machine can start no process: Too many open files" in shut["why"]
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, before)
    for task_id in ids:
        assert spool.event("done", task_id)["outcome"] == "ok"
    assert spool.records(ids[0])[0]["outcome"] == "lost"


def test_the_output_is_its_owner_s_alone(live: Make) -> None:
    spool = live(handler("say", "echo hello"))
    task_id = spool.submit("say")
    spool.event("done", task_id)
    path = spool.root / layout.log(task_id, 1)
    assert [place.stat().st_mode & 0o777 for place in (path.parent, path)] == [0o700, 0o600]
