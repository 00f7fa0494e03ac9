"""[recurring.NAME]: every time of a schedule becomes one task, whatever daemons, clocks and people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from spool import layout
from spool.occurrences import Mark, encode
from spool.schedule import occurrence_id
from spool.times import SECOND, parse_utc
from tests.e2e.live import Live, handler, toml, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Live]

NOTED = handler("tick", 'echo "$SPOOL_RECURRING $SPOOL_SCHEDULED $SPOOL_LATE." >> $NOTES/ticks')
DAY = 86_400 * SECOND


def schedule(name: str = "tick", **fields: object) -> str:
    """The lines of a schedule."""
    body = {"every": "1s", "task": "tick", **fields}
    lines = [f"{key} = {toml(value)}" for key, value in body.items()]
    return "\n".join([f"[recurring.{name}]", *lines, ""])


def mark(spool: Live, rule: str, ago: int, node: str = "other", name: str = "tick") -> None:
    """A node that has looked after a schedule so many us ago."""
    data = encode({name: Mark(rule, time.time_ns() // 1000 - ago, None)})
    (spool.root / layout.schedules(node)).write_bytes(data)


def say(spool: Live, *words: str, status: int = 0, stdin: str = "") -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "spool", *words],
        input=stdin,
        env={**os.environ, "SPOOL_DIR": str(spool.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done
    return done.stdout + done.stderr


def test_every_second_one_task_whose_id_is_that_of_its_time(live: Make) -> None:
    spool = live(NOTED + schedule(overlap="queue"))
    for line in spool.wait_lines("ticks", 3):
        name, at, late = line.split(" ")
        assert (name, late) == ("tick", ".")
        task_id = occurrence_id("tick", parse_utc(at))
        record = spool.end(task_id)
        assert record["recurring"] == {"name": "tick", "scheduled_at": at, "late": False}
    times = [parse_utc(line.split(" ")[1]) for line in spool.lines("ticks")]
    assert len(set(times)) == len(times)
    assert all(at % SECOND == 0 for at in times)


def test_a_killed_daemon_and_a_second_one_make_each_time_once(live: Make) -> None:
    spool = live(NOTED + schedule(overlap="queue", catch_up="all"))
    spool.wait_lines("ticks", 2)
    spool.kill9()
    spool.start()
    before = len(spool.lines("ticks"))
    spool.node = "there"
    other = spool.spoold()
    try:
        spool.wait_lines("ticks", before + 4)
    finally:
        other.kill()
        other.wait()

    def whole() -> bool:
        """Whether no second is left out; that none is there twice is seen at the end of every test."""
        times = sorted(entry.time for _, entry in spool.entries())
        return [b - a for a, b in pairwise(times)] == [SECOND] * (len(times) - 1)

    until(whole, "no second is left out")
    spool.node = "here"


@pytest.mark.parametrize(("catch_up", "count"), [("none", 0), ("once", 1), ("all", 5)])
def test_what_was_missed_is_made_up_for_as_the_setting_says(
    spool_at: Make, catch_up: str, count: int
) -> None:
    minute = time.gmtime(time.time() + 1800).tm_min  # so that none is on time
    rule = f"{minute} * * * *"
    spool = spool_at(
        NOTED + schedule(every=rule, catch_up=catch_up, timezone="UTC", most=5, overlap="queue")
    )
    mark(spool, f"{rule} UTC", 12 * 3600 * SECOND)
    assert spool.once("--until-idle") == 0
    lines = spool.lines("ticks")
    assert len(lines) == count
    assert all(line.endswith(" 1.") for line in lines)
    assert spool.once("--until-idle") == 0
    assert len(spool.lines("ticks")) == count


def test_a_schedule_that_is_new_or_has_changed_makes_up_for_nothing(spool_at: Make) -> None:
    spool = spool_at(NOTED + schedule(every="1h", catch_up="all"))
    assert spool.once("--until-idle") == 0
    mark(spool, "60000000 UTC", 5 * DAY)
    assert spool.once("--until-idle") == 0
    assert spool.lines("ticks") == []


def test_a_schedule_that_was_gone_for_a_time_makes_up_for_nothing_of_it(spool_at: Make) -> None:
    minute = time.gmtime(time.time() + 1800).tm_min  # so that none is on time
    rule = f"{minute} * * * *"
    spool = spool_at(NOTED)
    mark(spool, f"{rule} UTC", 12 * 3600 * SECOND, spool.node)
    assert spool.once("--until-idle") == 0
    spool.settings(NOTED + schedule(every=rule, timezone="UTC"))
    assert spool.once("--until-idle") == 0
    assert spool.lines("ticks") == []


def test_skip_leaves_out_what_comes_while_one_runs_and_says_so(live: Make) -> None:
    spool = live(handler("tick", "exec sleep 600") + schedule())
    spool.wait_count(2, "cancelled")
    assert spool.count("running") == 1
    for path, entry in spool.entries("cancelled"):
        assert spool.end(entry.id)["error"]["type"] == "duplicate", path


def test_replace_ends_the_one_that_runs(live: Make) -> None:
    spool = live(handler("tick", "exec sleep 600") + schedule(overlap="replace"))
    spool.wait_count(2, "cancelled")
    said = {spool.end(entry.id)["outcome"] for _, entry in spool.entries("cancelled")}
    assert said == {"cancelled"}


def test_a_pause_of_a_schedule_is_of_that_one_alone_and_nothing_is_made_up_for(live: Make) -> None:
    both = schedule(overlap="queue", catch_up="all") + schedule("other", task="other", overlap="queue")
    spool = live(NOTED + handler("other", "echo x >> $NOTES/others") + both)
    spool.wait_lines("ticks", 1)
    say(spool, "cron", "pause", "tick", "--why", "holidays")
    until(lambda: spool.journal("pause") or None, "the pause is taken in")
    assert "paused" in say(spool, "cron", "ls")
    made = len(spool.lines("others"))
    before = {line.split(" ")[1] for line in spool.lines("ticks")}
    spool.wait_lines("others", made + 4)
    pause = parse_utc(spool.journal("pause")[0]["at"])
    say(spool, "cron", "resume", "tick")
    lines = spool.wait_lines("ticks", len(before) + 3)
    resumed = parse_utc(spool.journal("resume")[0]["at"])
    times = [parse_utc(line.split(" ")[1]) for line in lines]
    assert not [at for at in times if pause + SECOND < at < resumed - SECOND]


def test_cron_run_makes_one_now_under_the_rule_for_overlaps(live: Make) -> None:
    spool = live(handler("tick", "exec sleep 600") + schedule(every="@yearly", args={"a": 1}))
    first = say(spool, "cron", "run", "tick").strip()
    spool.entry(first, "running")
    second = json.loads(say(spool, "cron", "run", "tick", "--json"))["id"]
    assert spool.end(second)["duplicate_of"] == first
    assert spool.end(second)["args"] == {"a": 1}


def test_cron_run_makes_one_whose_deadline_is_weeks_away(live: Make) -> None:
    spool = live(NOTED + schedule(every="@yearly", deadline="14d", timeout="14d"))
    made = spool.end(say(spool, "cron", "run", "tick").strip())
    span = parse_utc(made["deadline"]) - parse_utc(made["submitted_at"])
    assert 14 * DAY <= span <= 14 * DAY + SECOND  # a name has whole seconds


def test_a_spread_moves_the_start_and_not_the_time_it_is_of(live: Make) -> None:
    spool = live(NOTED + schedule(spread="1h", overlap="queue"))
    until(lambda: spool.count("pending") > 1, "some wait for their start")
    shifts = set()
    for _, entry in spool.entries("pending"):
        copy = json.loads((spool.root / layout.own_copy(entry.id)).read_bytes())
        shifts.add(entry.time - parse_utc(copy["recurring"]["scheduled_at"]))
    assert len(shifts) == 1
    assert shifts.pop() < 3600 * SECOND


def test_cron_tells_what_there_is_and_what_an_expression_means(spool_at: Make) -> None:
    spool = spool_at(NOTED + schedule(every="30 2 * * *", timezone="Europe/Rome"))
    (row,) = [json.loads(line) for line in say(spool, "cron", "ls", "--json").splitlines()]
    assert (row["name"], row["every"], row["timezone"]) == ("tick", "30 2 * * *", "Europe/Rome")
    lines = [
        json.loads(li) for li in say(spool, "cron", "next", "tick", "-n", "400", "--json").splitlines()
    ]
    assert row["next"] == lines[0]["at"]
    assert len({line["at"] for line in lines}) == 400
    said = say(spool, "cron", "explain", "30 2 * * MON", "--timezone", "America/New_York")
    assert "Monday" in said
    assert "set back, the first time" in said
    told = json.loads(say(spool, "cron", "explain", "30 2 * * MON", "-n", "2", "--json"))
    assert (told["every"], len(told["next"])) == ("30 2 * * MON", 2)
    assert told["means"] == " ".join(said.splitlines()[:2])
    assert "must have five fields" in say(spool, "cron", "explain", "* * * *", status=65)
    for verb in ("next", "ls"):
        assert "did you mean 'tick'" in say(spool, "cron", verb, "tik", status=65)


CRONTAB = """
# comment
MAILTO=zoe
PATH="/usr/bin:/bin"
30 2 * * 1-5 /usr/bin/backup --all "a b" > /dev/null 2>&1
@daily  echo 100\\% sure
CRON_TZ=Europe/Rome
*/5 * * * * backup
@reboot start
61 * * * * x
0 0 * * * mail zoe%hello
3 3 * * * tool --sep="\u2028" --all
PYTHONPATH=/srv/app
4 4 * * * mine
"""


@pytest.mark.parametrize("name", ["crontab", "-"])
def test_a_crontab_becomes_schedules_and_a_word_on_every_other_line(
    spool_at: Make, tmp_path: Path, name: str
) -> None:
    from spool.settings import load

    file = tmp_path / "crontab"
    file.write_bytes(CRONTAB.encode() + b"0 1 * * * cat caf\xe9\n")

    def imported(*more: str) -> subprocess.CompletedProcess[str]:
        with file.open() as stdin:
            return subprocess.run(
                [sys.executable, "-m", "spool", "cron", "import", name, *more],
                cwd=tmp_path,
                stdin=stdin,
                capture_output=True,
                text=True,
                check=False,
            )

    done, told = imported(), imported("--json")
    assert (done.returncode, told.returncode, told.stderr) == (65, 65, done.stderr)
    rows = json.loads(told.stdout)
    assert [row["line"] for row in rows.pop("problems")] == [9, 10, 11, 14, 15]
    assert [row["line"] for row in rows.pop("notes")] == [3]
    assert rows == tomllib.loads(done.stdout)
    found = {s.name: s for s in load(done.stdout).recurring}
    assert set(found) == {"backup", "echo", "backup-2", "tool"}
    assert found["backup"].args["argv"][2] == '/usr/bin/backup --all "a b" > /dev/null 2>&1'
    assert found["backup"].args["env"] == {"PATH": "/usr/bin:/bin"}
    assert found["echo"].args["argv"][2] == "echo 100% sure"
    assert found["tool"].args["argv"][2] == 'tool --sep="\u2028" --all'
    assert found["backup-2"].timezone == "Europe/Rome"
    assert {(s.retries, s.overlap, s.catch_up) for s in found.values()} == {(0, "queue", "none")}
    for words in ("line 3: MAILTO", "line 9: @reboot", "line 10: 61", "line 11: has a %", "4 of 9 lines"):
        assert words in done.stderr, done.stderr
    assert "line 14: args.env `PYTHONPATH`: must not set" in done.stderr
    assert "line 15: is not UTF-8" in done.stderr
    spool = spool_at(done.stdout)
    assert spool.once("--check") == 0
    assert "spool.toml: 0 handlers, all well" in spool.says()


def test_a_schedule_is_set_and_changed_and_removed_by_actions_and_outlives_the_daemon(live: Make) -> None:
    spool = live(NOTED + schedule("mine", every="@yearly"))
    say(
        spool,
        "cron",
        "set",
        "other",
        "every=1s",
        "task=tick",
        "overlap=queue",
        "--why",
        "a test",
        "--wait",
    )
    spool.wait_lines("ticks", 2)
    spool.kill9()
    known = len(spool.lines("ticks"))
    spool.start()
    assert spool.wait_lines("ticks", known + 2)[-1].startswith("other ")
    assert {"mine", "other"} == {
        json.loads(x)["name"] for x in say(spool, "cron", "ls", "--json").splitlines()
    }
    say(spool, "cron", "set", "other", "every=@yearly", "task=tick", "--wait")
    assert "@yearly" in say(spool, "cron", "ls").splitlines()[-1]

    def paused() -> list[str]:
        return sorted(row["task"] for row in json.loads(say(spool, "status", "--json"))["pauses"])

    say(spool, "cron", "pause", "mine", "other", "--wait")
    say(spool, "cron", "set", "other", "every=@weekly", "task=tick", "--wait")
    assert paused() == ["@mine", "@other"]
    say(spool, "cron", "rm", "other", "--wait")
    assert "other" not in say(spool, "cron", "ls")
    assert paused() == ["@mine"]
    say(spool, "cron", "set", "other", "every=@yearly", "task=tick", "--wait")
    say(spool, "cron", "rm", "other", "--wait")
    tables = [line["table"] is None for line in spool.journal("schedule")]
    assert tables == [False, False, False, True, False, True]
    assert [line["scope"]["task"] for line in spool.journal("resume")] == ["@other"]


def test_a_task_dropped_with_every_recurs_and_twice_it_is_the_same_schedule(live: Make) -> None:
    spool = live(NOTED)
    for _ in range(2):
        spool.taken(spool.drop({"task": "tick", "every": "1s", "overlap": "queue"}))
    assert spool.wait_lines("ticks", 2)[-1].startswith("tick ")
    assert [json.loads(x)["name"] for x in say(spool, "cron", "ls", "--json").splitlines()] == ["tick"]


@pytest.mark.parametrize(
    ("doc", "field", "rule"),
    [
        ({"name": "mine", "table": {"every": "1s", "task": "tick"}}, "name", "change it there"),
        ({"name": "none"}, "name", "is no schedule"),
        ({"name": "x", "table": {"every": "61 * * * *", "task": "tick"}}, "table.every", "cron"),
    ],
)
def test_a_schedule_that_cannot_be_set_is_refused(
    live: Make, doc: dict[str, object], field: str, rule: str
) -> None:
    spool = live(NOTED + schedule("mine", every="@yearly"))
    reason = spool.refusal(spool.drop({"action": "schedule", **doc}))
    assert reason["field"] == field
    assert rule in str(reason["rule"])
