"""The command keeps its contract with no daemon there: what it prints, where, its exit status, what it drops."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spool import layout, packs, streams
from spool.client import Spool
from spool.command import render
from spool.command.main import main
from spool.command.replay import _rounds
from spool.command.verbs import VERBS
from spool.errors import (
    EX_CANTCREAT,
    EX_CONFIG,
    EX_IOERR,
    EX_USAGE,
    NoSuchTask,
    NotASpool,
    Refused,
    TimedOut,
)
from spool.fields import TAKES
from spool.fields import VERBS as VERBS_OF_TASKS
from spool.init import init
from spool.match import STATES
from spool.names import DAY_US, Entry, date_of, id_date, new_id
from spool.safe import safe
from spool.times import HOUR, format_utc
from spoold import locks
from spoold.core.table import TABLE
from tests.unit.test_client import NOW, put_event, put_record, take_in

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
OK, USAGE, DATAERR, NOINPUT, UNAVAILABLE, TEMPFAIL, NOPERM = 0, 64, 65, 66, 69, 75, 77


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "spool"
    init(str(place))
    return place


@pytest.fixture
def say(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Run `spool ...` on this spool; (exit status, standard output, standard error)."""
    monkeypatch.setenv("SPOOL_DIR", str(root))

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = main(words)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def dropped(root: Path) -> list[dict[str, Any]]:
    names = sorted(n for n in os.listdir(root / "incoming") if not n.startswith("."))
    return [json.loads((root / "incoming" / name).read_bytes()) for name in names]


# submit


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--at", "+1h", "--deadline", "+40s"], "deadline is before at: late from the start"),
        (["--deadline", "2020-01-01"], "deadline has passed: late from the start"),
        (["--dry-run", "--deadline", "2020-01-01"], "deadline has passed: late from the start"),
        (
            ["--attach", "a=/dev/null", "--deadline", "2020-01-01"],
            "deadline has passed: late from the start",
        ),
        (["--json", "--deadline", "2020-01-01"], ""),
        (["--at", "+1h", "--deadline", "+2h"], ""),
        (["--deadline", "+1s"], ""),
        (["--every", "1h", "--deadline", "1s"], ""),
    ],
)
def test_submit_tells_of_a_task_that_is_late_from_the_start(
    say: Any, words: list[str], told: str
) -> None:
    status, out, err = say("submit", "mail.welcome", *words)
    assert (status, err) == (0, f"spool: {told}\n" if told else "")
    assert out.count("\n") == 1


def test_submit_prints_the_id_and_nothing_else(root: Path, say: Any) -> None:
    status, out, err = say("submit", "mail.welcome", "to=zoe")
    (doc,) = dropped(root)
    assert (status, out, err) == (OK, f"{doc['id']}\n", "")
    assert doc["args"] == {"to": "zoe"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("k=3", 3),
        ("k=3.5", 3.5),
        ("k=true", True),
        ("k=null", None),
        ('k={"a": [1]}', {"a": [1]}),
        ('k="3"', "3"),
        ("k=zoe", "zoe"),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ("k=NaN", "NaN"),
        ("k=123456789012345678901234567890", "123456789012345678901234567890"),
        ("k=[1", "[1"),
        ("k=01", "01"),
        ("k=漢字", "漢字"),
    ],
)
def test_a_value_that_is_json_is_that_and_any_other_is_text(
    root: Path, say: Any, word: str, value: Any
) -> None:
    assert say("submit", "a", word)[0] == OK
    assert dropped(root)[0]["args"] == {"k": value}
    assert type(dropped(root)[0]["args"]["k"]) is type(value)


def test_every_field_of_a_submission_has_its_option(root: Path, say: Any) -> None:
    task_id = new_id()
    other = new_id()
    values = {
        "id": (task_id, task_id),
        "at": (str(NOW // 1_000_000), NOW // 1_000_000),
        "deadline": ("+2d", "+2d"),
        "tz": ("Europe/Rome", "Europe/Rome"),
        "lead": ("1.5", 1.5),
        "priority": ("low", "low"),
        "position": ("front", "front"),
        "retries": ("0", 0),
        "backoff": ('{"base": "2s", "factor": 3}', {"base": "2s", "factor": 3}),
        "timeout": ("90s", "90s"),
        "version": ("3", 3),
        "notify": ("shop", "shop"),
        "on_miss": ("drop", "drop"),
        "trace": (f"00-{'a' * 32}-{'b' * 16}-01",) * 2,
        "replay_of": (task_id, task_id),
        "meta": ("k=1", {"k": 1}),
        "key": ("customer 17", "customer 17"),
        "key_for": ("1h", "1h"),
        "on_duplicate": ("extend", "extend"),
        "after": (other, [other]),
        "on_failure": ("run", "run"),
        "ref": ("a", "a"),
    }
    rows = {n: r for n, r in TAKES["submit"].items() if n not in ("task", "args", "files")}
    assert rows.keys() == values.keys()
    words = [w for name, (text, _) in values.items() for w in (f"--{name.replace('_', '-')}", text)]
    assert say("submit", "a", *words)[0] == OK
    assert dropped(root) == [{"task": "a", **{name: value for name, (_, value) in values.items()}}]


def test_a_submission_with_every_sets_a_schedule_and_prints_its_name(root: Path, say: Any) -> None:
    words = ("submit", "a", "n=1", "--every", "30 2 * * *", "--tz", "Europe/Rome", "--deadline", "2h")
    assert say(*words) == (OK, "a\n", "")
    assert dropped(root) == [
        {"task": "a", "args": {"n": 1}, "every": "30 2 * * *", "tz": "Europe/Rome", "deadline": "2h"}
    ]
    assert say("submit", "a", "--every", "90", "--key", "k", "--json") == (OK, '{"schedule":"k"}\n', "")
    assert dropped(root)[1]["every"] == 90
    for words in (["--every", "@daily"], ["--front"], ["--attach", "a=/x"]):
        assert say("submit", "--file", "-", *words, stdin='{"task": "a"}')[0] == USAGE
    status, out, err = say("submit", "a", "--every", "@daily", "--at", "+1h")
    assert (status, out, "every says when" in err) == (DATAERR, "", True)


@pytest.mark.parametrize(
    "words",
    [
        ["pause", "--until", "4102444000"],
        ["drain", "--until", "4102444000"],
        ["errors", "mute", "0123456789abcdef", "--until", "4102444000"],
        ["cron", "pause", "nightly", "--until", "4102444000"],
        ["move", new_id(), "--at", "4102444000"],
        ["submit", "a", "--deadline", "4102444000.5"],
    ],
    ids=lambda words: words[0],
)
def test_a_time_may_be_unix_seconds(root: Path, say: Any, words: list[str]) -> None:
    (root / "errors" / "0123456789abcdef.json").touch()
    (root / "spool.toml").write_text('[recurring.nightly]\nevery = "0 3 * * *"\ntask = "a"\n')
    assert say(*words)[0] == OK
    assert float(words[-1]) in dropped(root)[0].values()


def test_an_option_may_be_spelt_as_its_field(root: Path, say: Any) -> None:
    assert say("submit", "a", "--key", "k", "--on_duplicate=replace", "--on_miss", "drop")[0] == OK
    assert {**dropped(root)[0], "id": ""} == {
        "id": "", "task": "a", "key": "k", "on_duplicate": "replace", "on_miss": "drop"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["submit", "a", "--prioritty", "high"], "--priority"),
        (["submit", "a", "--PRIORITY=high"], "--priority"),
        (["submit", "a", "--on_mis", "drop"], "--on-miss"),
        (["ls", "--tsk", "a"], "--task"),
        (["run", "--wiat"], "--wait"),
        (["--spol"], "--spool"),
        (["submit", "a", "--qqqqqqqqqq"], None),
        (["ls", "-x"], None),
    ],
)
def test_of_a_mistyped_option_the_one_that_was_meant_is_told(
    say: Any, words: list[str], near: str | None
) -> None:
    status, out, err = say(*words)
    assert (status, out, err.count("\n")) == (USAGE, "", 1)
    assert f"did you mean {near}?" in err if near else "--help`" in err


def test_a_version_with_dots_is_a_name_and_meta_adds_up(root: Path, say: Any) -> None:
    assert (
        say(
            "submit",
            "a",
            "--version",
            "1.4",
            "--meta",
            '{"a": 1}',
            "--meta",
            "b=2",
            "x=1",
            "--front",
            "y=2",
        )[0]
        == OK
    )
    (doc,) = dropped(root)
    assert (doc["version"], doc["meta"], doc["position"]) == ("1.4", {"a": 1, "b": 2}, "front")
    assert doc["args"] == {"x": 1, "y": 2}


def test_args_come_as_json_or_from_standard_input_and_words_add_to_them(root: Path, say: Any) -> None:
    assert say("submit", "a", "--args", '{"a": 1}', "b=2")[0] == OK
    assert say("submit", "a", "--args", "-", stdin="[1, 2]")[0] == OK
    assert [d["args"] for d in dropped(root)] == [{"a": 1, "b": 2}, [1, 2]]
    assert say("submit", "a", "--args", "[1]", "b=2")[0] == USAGE
    assert say("submit", "a", "--args", "{")[0] == DATAERR


def test_a_file_of_lines_is_a_batch_and_prints_an_id_a_line(root: Path, say: Any) -> None:
    status, out, _ = say("submit", "--file", "-", stdin='{"task": "a"}\n\n{"task": "b", "args": 1}\n')
    (batch,) = dropped(root)
    assert status == OK
    assert out.split() == [t["id"] for t in batch["tasks"]]
    assert [t["task"] for t in batch["tasks"]] == ["a", "b"]


def test_a_file_may_be_any_whole_action(root: Path, say: Any, tmp_path: Path) -> None:
    task_id = new_id()
    for number, doc in enumerate(
        [
            {"action": "hold", "ids": [task_id]},
            {"task": "a"},
            {"action": "submit", "task": "b"},
            {"tasks": [{"task": "c"}]},
        ]
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(doc, indent=2))
        status, out, _ = say("submit", "--file", str(path))
        told = "[0-9a-f]{32}" if number else "hold: asked for what the file says"
        assert (status, bool(re.fullmatch(f"{told}\n", out))) == (OK, True)
    assert [d.get("task") or d.get("action") or d["tasks"][0]["task"] for d in dropped(root)] == [
        "hold",
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"task": "a"}\n{"task": "?"}\n',
        '{"task": "a"}\n{\n',
        '{"task": "a", "task": "b"}',
        "\xff",
    ],
)
def test_a_file_that_breaks_a_rule_submits_nothing(root: Path, say: Any, text: str) -> None:
    status, out, err = say("submit", "--file", "-", stdin=text)
    assert (status, out) == (DATAERR, "")
    assert err.startswith("spool: ")
    assert err.count("\n") == 1
    assert dropped(root) == []
    assert os.listdir(root / "tmp") == []


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"task": "?"}', "line 4: task `?`: must be 1 to 64"),
        ("{", "line 4: document: must be"),
        ("7", "line 4: document: must be one JSON object"),
    ],
)
def test_a_bad_line_of_a_file_is_told_by_its_number(say: Any, line: str, told: str, more: Any) -> None:
    text = f'{{"task": "a"}}\n{{"task": "b"}}\n\n{line}\n'
    assert say("submit", "--file", "-", *more, stdin=text)[2].startswith(f"spool: {told}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["submit", "a", "k=\udce9"], "args.k: must be UTF-8"),
        (["submit", "a", "\udce9=k"], "args: must have names in UTF-8"),
        (["submit", "a", "--args", '"\udcff"'], "must be UTF-8; byte 1 is not (0xff)"),
        (["run", "--", "printf", "\udcff"], "args.argv[1]: must be UTF-8"),
    ],
)
def test_bytes_that_are_no_utf_8_are_told_by_their_place(say: Any, words: list[str], told: str) -> None:
    status, out, err = say(*words)
    assert (status, out) == (DATAERR, "")
    assert err.rstrip().endswith(told)


def test_a_dry_run_prints_the_action_and_drops_nothing(root: Path, say: Any) -> None:
    status, out, _ = say("submit", "a", "n=1", "--at", "+5m", "--dry-run")
    assert (status, json.loads(out)) == (OK, {"task": "a", "at": "+5m", "args": {"n": 1}})
    assert say("submit", "a b", "--dry-run")[0] == DATAERR
    for words in (["submit", "--dry-run", "a"], ["run", "--dry-run"]):
        out = say(*words, "n=\x9b\u202e")[1]
        assert safe(out, keep="\n") == out
        assert next(iter(json.loads(out)["args"].values())) in ("\x9b\u202e", ["n=\x9b\u202e"])
    assert dropped(root) == []


def test_a_missing_file_is_an_io_error_in_one_line(say: Any) -> None:
    status, _, err = say("submit", "--file", "/no/such\x1bfile")
    assert (status, err) == (74, "spool: /no/such\\x1bfile: No such file or directory\n")


@pytest.mark.parametrize(
    "words",
    ["submit a", "submit a --every 1h", "ls", "ls --ids", "show DONE", "status", "shape", "why DONE",
     "hold DONE", "pause", "errors resolve 0123456789abcdef", "replay DONE", "replay DONE --into OTHER",
     "cron ls", "cron next n", "cron explain @daily", "cron import TAB", "cron pause n", "cron rm n",
     "cron set x every=1h task=b", "init OTHER", "doctor", "prune", "fsck"],
)  # fmt: skip
def test_what_json_has_is_told_on_the_page(root: Path, say: Any, tmp_path: Path, words: str) -> None:
    page = (ROOT / "man" / "spool.1").read_text().partition(".Sh JSON\n")[2].partition("\n.Sh ")[0]
    told = set(re.findall(r"[a-z_]+", page.partition("\n.It ")[2]))
    (root / "spool.toml").write_text('[recurring.n]\nevery = "@daily"\ntask = "a"\n')
    (root / layout.PAUSES).write_text(f'[{{"kind": "pause", "since": {NOW}}}]')
    (root / "errors" / "0123456789abcdef.json").write_text("{}")
    (tmp_path / "TAB").write_text("@daily x\n@reboot x\nMAILTO=x\n")
    init(str(tmp_path / "OTHER"))
    (root / "lost+found").mkdir()
    for name in ("TAB", "OTHER"):
        words = words.replace(name, str(tmp_path / name))
    out = say(*words.replace("DONE", queue(root)["done"]).split(), "--json")[1]
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows
    for row in rows:
        assert row.keys() <= told, row.keys() - told
    if words == "status":
        assert [row["since"] for row in rows[0]["pauses"]] == [format_utc(NOW)]


# run


def test_run_is_a_task_with_this_directory_and_one_attempt(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "blue")
    status, out, _ = say(
        "run", "--at", "+1h", "--env", "COLOUR", "--env", "A=b=c", "--", "ls", "--wait", "--", "-l"
    )
    (doc,) = dropped(root)
    assert (status, out) == (OK, f"{doc['id']}\n")
    assert (doc["task"], doc["retries"], doc["at"]) == ("spool.run", 0, "+1h")
    assert doc["args"] == {
        "argv": ["ls", "--wait", "--", "-l"],
        "cwd": os.getcwd(),
        "env": {"COLOUR": "blue", "A": "b=c"},
    }


@pytest.mark.parametrize("words", [["--retries", "2", "ls", "-l"], ["--retries", "2", "--", "ls", "-l"]])
def test_run_takes_its_options_before_the_command(root: Path, say: Any, words: list[str]) -> None:
    assert say("run", *words)[0] == OK
    assert dropped(root)[0]["args"]["argv"] == ["ls", "-l"]
    assert dropped(root)[0]["retries"] == 2


def test_run_wants_a_command_and_a_private_spool(root: Path, say: Any) -> None:
    assert say("run")[0] == USAGE
    assert say("run", "--env", "NOT_SET_HERE", "--", "ls")[0] == DATAERR
    root.chmod(0o711)
    status, _, err = say("run", "--", "ls")
    assert status == NOPERM
    assert "chmod 700" in err
    assert dropped(root) == []


# ls


def queue(root: Path) -> dict[str, str]:
    """Some tasks in every state, by what they are."""
    ids = {}

    def put(name: str, state: str = "pending", **more: Any) -> None:
        ids[name] = new_id()
        take_in(root, ids[name], name, state, **{"prio": "medium", "base": "medium", **more})

    put("late.low", prio="low", base="low")
    put("second")
    put("first.high", prio="high", base="high")
    put("front", front=True)
    put("runs", "running")
    put("held", "held", why="asked")
    put("done", "done")
    put("failed", "failed", fails=2)
    return ids


def test_ls_shows_what_is_to_come_in_the_order_it_will_run(root: Path, say: Any) -> None:
    ids = queue(root)
    status, out, _ = say("ls", "--ids")
    assert status == OK
    assert out.split() == [ids[n] for n in ("runs", "first.high", "front", "second", "late.low", "held")]
    assert say("ls", "--ids", "-n", "2")[1].split() == [ids["runs"], ids["first.high"]]
    assert say("ls", "failed", "--ids")[1].split() == [ids["failed"]]
    assert len(say("ls", "--all", "--ids", "-n", "0")[1].split()) == len(ids)
    assert say("ls", "--task", "*.high", "--ids")[1].split() == [ids["first.high"]]


def test_what_has_failed_has_the_number_of_its_last_attempt(root: Path, say: Any) -> None:
    task_id = new_id()
    path = take_in(root, task_id, state="failed", fails=2)
    put_record(root, task_id, path, event="failed", attempt=2)
    assert json.loads(say("ls", "failed", "--json")[1])["attempt"] == 2
    assert json.loads(say("show", task_id, "--json")[1])["attempt"] == 2
    assert say("ls", "failed")[1].split()[-1] == "2"
    expired = take_in(root, new_id(), state="cancelled", fails=1)
    assert json.loads(say("ls", "cancelled", "--json")[1])["attempt"] == 2, expired


def test_ls_is_a_table_with_whole_ids(root: Path, say: Any) -> None:
    ids = queue(root)
    lines = say("ls", "--all")[1].splitlines()
    assert lines[0].split() == ["STATE", "WHEN", "CLASS", "ID", "TASK", "ATTEMPT", "WHY"]
    assert len(lines) == 1 + len(ids)
    column = lines[0].index("ID")
    assert {line[column : column + 32] for line in lines[1:]} == set(ids.values())
    assert "\x1b" not in "".join(lines)


def test_ls_tells_of_a_task_that_moves_on_meanwhile_what_it_tells_of_any(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, moved, gone = new_id(), new_id(), new_id()
    take_in(root, moved, doc={"key": "k", "after": [after]})
    (root / take_in(root, gone)).unlink()
    found = [dataclasses.replace(one, path=f"{one.path}.x") for one in Spool(root).list()]
    found.append(dataclasses.replace(found[0], id=gone))
    monkeypatch.setattr(Spool, "list", lambda _, state, __: found if state == "pending" else [])
    (root / layout.own_copy(gone)).unlink()
    rows = [json.loads(line) for line in say("ls", "--json")[1].splitlines()]
    assert {row["id"]: (row["key"], row["after"]) for row in rows} == {
        moved: ("k", [after]),
        gone: (None, None),
    }


def test_ls_as_json_is_one_object_a_line(root: Path, say: Any) -> None:
    ids = queue(root)
    rows = [json.loads(line) for line in say("ls", "--json")[1].splitlines()]
    assert rows[0]["id"] == ids["runs"]
    only = [json.loads(line) for line in say("ls", "--json", "--ids")[1].splitlines()]
    assert only == [{"id": row["id"]} for row in rows]
    assert rows[-1] | {"path": ""} == {
        "id": ids["held"],
        "task": "held",
        "state": "held",
        "priority": "medium",
        "at": rows[-1]["at"],
        "deadline": None,
        "attempt": 1,
        "why": "asked",
        "node": None,
        "path": "",
        "key": None,
        "after": [],
    }


def test_ls_tells_the_key_and_what_is_waited_for(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [new_id() for _ in range(3)]
    take_in(root, ids[2], state="held", why="after", doc={"key": "k", "after": ids[:2]})
    assert say("ls")[1].split()[-7:] == ["after", ids[0], "and", "1", "more,", "key", "k"]
    row = json.loads(say("ls", "--json")[1])
    assert (row["key"], row["after"]) == ("k", ids[:2])
    monkeypatch.setattr("spool.command.ls.FEW", 0)
    assert not json.loads(say("ls", "--json")[1]).keys() & {"key", "after"}


@pytest.mark.parametrize("words", [["ls", "nonsense"], ["ls", "-n", "-1"], ["ls", "-n", "x"]])
def test_ls_refuses_what_it_does_not_know(say: Any, words: list[str]) -> None:
    assert say(*words)[0] in (USAGE, DATAERR)


def test_an_empty_queue_prints_nothing(say: Any) -> None:
    assert say("ls") == (OK, "", "")


# show, why, log


def test_show_tells_all_of_a_tasks_life(root: Path, say: Any) -> None:
    task_id = new_id()
    path = take_in(root, task_id, "mail", "failed", fails=1, doc={"args": {"to": "a\x1b[31mb"}})
    error = {"type": "x", "message": "no \u202eway\x07"}
    put_record(
        root, task_id, path, event="failed", error=error, outcome="error", seconds=1.5, log="logs/x"
    )
    place = root / "journal" / "n"
    place.mkdir()
    line = {
        "at": format_utc(time.time_ns() // 1000),
        "event": "fail",
        "id": task_id,
        "to": "failed",
        "node": "n",
        "attempt": 1,
    }
    (place / "2999-01-01.jsonl").write_text(json.dumps(line) + "\n{torn\n")
    status, out, _ = say("show", task_id)
    assert status == OK
    for words in (task_id, path, "no \\u202eway\\x07", '"a\\u001b[31mb"', "JOURNAL", '{"attempt":1}'):
        assert words in out
    assert "\x1b" not in out
    shown = json.loads(say("show", task_id, "--json")[1])
    assert shown["journal"] == [line]
    assert shown["attempts"][0]["error"] == error
    assert shown["logs"] == [layout.log(task_id, 1)]


def test_show_reads_no_journal_of_the_days_after_a_task_was_done(root: Path, say: Any) -> None:
    now = time.time_ns() // 1000
    (root / "journal" / "n").mkdir()
    for state in ("done", "failed"):  # what has failed may have been retried since
        task_id = new_id()
        path = take_in(root, task_id, "mail", state)
        put_record(root, task_id, path, event=state, outcome="ok", ended_at=format_utc(now))
        line = {"at": format_utc(now + 3 * DAY_US), "event": "claim", "id": task_id}
        later = root / "journal" / "n" / f"{date_of(now + 3 * DAY_US)}.jsonl"
        later.write_text(json.dumps(line, separators=(",", ":")) + "\n")
        shown = json.loads(say("show", task_id, "--json")[1])["journal"]
        assert shown == ([] if state == "done" else [line])


@pytest.mark.parametrize(
    "task_id", ["0193a5b27c4d7e8f9a0b1c2d3e4f5a6b", "ffffffffffff7fff8fffffffffffffff"]
)
@pytest.mark.parametrize("verb", ["show", "why", "log", "wait", "history"])
def test_an_id_nobody_has_is_no_input(say: Any, verb: str, task_id: str) -> None:
    status, out, err = say(verb, task_id)
    assert (status, out) == (NOINPUT, "")
    assert "no task has the id" in err


@pytest.mark.parametrize("data", [b"\xff", b"[", None])
@pytest.mark.parametrize("words", [("prune",), ("replay", "--all")])
def test_a_dry_run_says_so_where_the_settings_cannot_be_read(
    root: Path, say: Any, words: tuple[str, ...], data: bytes | None
) -> None:
    (root / "spool.toml").unlink()
    if data is None:
        (root / "spool.toml").mkdir()
    else:
        (root / "spool.toml").write_bytes(data)
    take_in(root, new_id(), "mail", "done")
    status, out, err = say(*words, "--dry-run")
    assert (status, out, err.count("\n")) == (EX_CONFIG, "", 1)
    assert "spool.toml: " in err


def test_history_of_an_id_that_neither_a_task_nor_a_line_has_is_no_input(root: Path, say: Any) -> None:
    waits, gone = new_id(), new_id()
    take_in(root, waits, "a")
    line = {"at": format_utc(NOW), "event": "cancel", "id": gone}
    (root / "journal" / "n").mkdir(parents=True)
    (root / "journal" / "n" / f"{date_of(NOW)}.jsonl").write_text(
        json.dumps(line, separators=(",", ":")) + "\n"
    )
    assert say("history", waits)[0] == OK
    assert say("history", gone, "--event", "fail")[0] == OK
    status, out, err = say("history", new_id(), gone, "--json")
    assert (status, json.loads(out)) == (NOINPUT, line)
    assert "no task has the id" in err


@pytest.mark.parametrize("verb", ["show", "why", "history"])
def test_what_is_known_is_told_though_another_id_is_not(root: Path, say: Any, verb: str) -> None:
    task_id, gone, other = new_id(), new_id(), new_id()
    take_in(root, task_id, "mail")
    line = {"at": format_utc(NOW), "event": "submit", "id": task_id, "task": "mail"}
    (root / "journal" / "n").mkdir()
    (root / "journal" / "n" / f"{date_of(NOW)}.jsonl").write_text(json.dumps(line) + "\n")
    status, out, err = say(verb, gone, task_id, other)
    assert (status, out.count(task_id) > 0) == (NOINPUT, True)
    assert gone in err
    assert other in err


def test_wait_goes_on_with_the_others_where_an_id_is_not_known(root: Path, say: Any) -> None:
    task_id = new_id()
    put_record(root, task_id, take_in(root, task_id, "mail", "done"), event="done", result=7)
    status, out, err = say("wait", new_id(), task_id)
    assert (status, out) == (NOINPUT, "7\n")
    assert "no task has the id" in err


def test_history_of_no_ids_is_no_line(root: Path, say: Any) -> None:
    line = {"at": format_utc(NOW), "event": "submit", "id": new_id()}
    (root / "journal" / "n").mkdir()
    (root / "journal" / "n" / f"{date_of(NOW)}.jsonl").write_text(json.dumps(line) + "\n")
    assert say("history", "-") == (OK, "", "")
    assert say("history", "-f", "-") == (OK, "", "")


@pytest.mark.parametrize("task_id", ["nosuchid", "01a1d2a8", "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"])
@pytest.mark.parametrize("options", [[], ["-f"]])
def test_history_refuses_any_id_that_is_not_known(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch, task_id: str, options: list[str]
) -> None:
    monkeypatch.setattr("spool.journal.follow", lambda *_: iter(()))
    status, out, err = say("history", *options, task_id)
    assert (status, out) == (NOINPUT, "")
    assert "no task has the id" in err


def test_why_says_in_one_line_what_a_task_waits_for(root: Path, say: Any) -> None:
    ids = queue(root)
    later, again, poison, no_code = new_id(), new_id(), new_id(), new_id()
    soon = time.time_ns() // 1000 + 7_200_000_000
    (root / "nodes" / "pauses.json").write_text(
        json.dumps([{"kind": "pause", "task": "sec*", "node": None, "who": "zoe", "uid": 1, "why": "relay\x1b is down",
                     "since": format_utc(NOW), "until": None}])
    )  # fmt: skip

    for task_id, more in ((later, {}), (again, {"fails": 2})):
        path = take_in(root, task_id, "x", **more)
        target = layout.pending(Entry(time=soon, id=task_id, task="x", **more))
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / target)
    take_in(root, poison, "x", "held", why="poison")
    take_in(root, no_code, "x.y", "held", why="no-handler")

    def why(task_id: str) -> str:
        status, out, _ = say("why", task_id)
        assert status == OK
        assert out.count("\n") == 1
        return str(out)

    assert "not before" in why(later)
    assert "(in 1 h 59 min)" in why(later)
    assert why(again).startswith("attempt 3 not before")
    put_record(root, again, "x", event="retrying", will_retry=True, error={"message": "451 later"})
    assert "(in 1 h 59 min); the last one: 451 later; no spoold" in why(again)
    put_record(root, later, "x", event="snoozed", will_retry=True, error={"message": "they are closed"})
    assert why(later).startswith("attempt 1 not before")
    assert "behind 1 high, 2 medium" in why(ids["late.low"])
    assert "no spoold serves this spool; start it with `spoold --spool" in why(ids["late.low"])
    assert "paused (sec*) by zoe since" in why(ids["second"])
    assert "relay\\x1b is down" in why(ids["second"])
    assert "no handler for `x.y`" in why(no_code)
    assert "poison" in why(poison)
    assert "release" in why(ids["held"])
    assert "running on node n" in why(ids["runs"])
    assert "not alive" in why(ids["runs"])
    assert why(ids["done"]).startswith("done ")
    assert "no spoold serves" in why(say("submit", "a")[1].strip())
    rows = [json.loads(line) for line in say("why", "--json", ids["done"], ids["held"])[1].splitlines()]
    assert [(r["id"], r["state"]) for r in rows] == [(ids["done"], "done"), (ids["held"], "held")]


def test_what_is_no_file_in_the_place_of_a_log_is_not_waited_for(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id = new_id()
    put_record(root, task_id, take_in(root, task_id, state="done"))
    log = root / layout.log(task_id, 1)
    log.parent.mkdir()
    os.mkfifo(log)
    assert main(["log", "--spool", str(root), task_id]) != OK
    assert "not a regular file" in capsys.readouterr().err


def test_a_log_is_given_as_it_is_to_a_pipe(root: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    task_id = new_id()
    path = take_in(root, task_id, state="done")
    put_record(root, task_id, path)
    assert main(["log", "--spool", str(root), task_id]) == NOINPUT

    log = root / layout.log(task_id, 1)
    log.parent.mkdir()
    log.write_bytes(b"one\n\xff\x1b[31m")
    done = subprocess.run(
        [sys.executable, "-m", "spool", "log", "-f", "--spool", str(root), task_id],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"one\n\xff\x1b[31m"
    capfdbinary.readouterr()
    assert main(["log", "--json", "--spool", str(root), task_id]) == OK
    assert json.loads(capfdbinary.readouterr().out) == {
        "id": task_id, "attempt": 1, "path": layout.log(task_id, 1), "text": "one\n\\xff\x1b[31m"
    }  # fmt: skip


def test_a_log_cannot_control_the_terminal(root: Path) -> None:
    task_id = new_id()
    put_record(root, task_id, take_in(root, task_id, state="done"))

    log = root / layout.log(task_id, 1)
    log.parent.mkdir()
    log.write_bytes("à\tb\n\x1b[31m\udcff".encode("utf-8", "surrogateescape"))
    shown = on_a_terminal("log", "--spool", str(root), task_id)
    assert shown.replace("\r\n", "\n") == "à\tb\n\\x1b[31m\\xff"


def on_a_terminal(*words: str, before: tuple[str, ...] = ("-m", "spool"), **env: str) -> str:
    """What `spool ...` shows on a terminal."""
    main_end, end = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")} | {"TERM": "xterm"} | env
    process = subprocess.Popen(
        [sys.executable, *before, *words], stdout=end, stderr=end, cwd=ROOT, env=env
    )
    os.close(end)
    shown = b""
    while True:
        try:
            part = os.read(main_end, 1 << 16)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(main_end)
    assert process.wait(30) == 0
    return shown.decode()


def test_colours_are_for_terminals_and_can_be_declined(root: Path) -> None:
    queue(root)
    words = ("ls", "--all", "--spool", str(root))
    assert "\x1b[31mfailed\x1b[0m" in on_a_terminal(*words)
    assert "\x1b" not in on_a_terminal(*words, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(*words, TERM="dumb")


def test_ls_tells_a_person_of_what_was_dropped_where_nobody_takes_it_in(root: Path) -> None:
    words = ("ls", "--spool", str(root))
    assert on_a_terminal(*words) == ""
    (root / layout.INCOMING / "mine.json").write_bytes(b"{}")
    told = on_a_terminal(*words)
    assert told.startswith("1 in incoming/, no spoold takes them in; start it with `")
    assert f"spoold --spool {root}" in told
    assert on_a_terminal(*words, "--json") == ""
    assert on_a_terminal(*words, "--ids") == told


def test_ls_tells_a_person_of_what_a_daemon_leaves_in_incoming(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / layout.INCOMING / "mine.json").write_bytes(b"{}")
    lock = locks.take(str(root / layout.lock("n")))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    def told(state: str) -> str:
        status = {"state": state, "written_at": format_utc(NOW + 9 * HOUR)}
        (root / layout.status("n")).write_text(json.dumps(status))
        return str(say("ls")[2])

    try:
        assert told("running") == ""
        assert (
            told("disk full: 7 bytes free") == "1 in incoming/, not taken in: disk full: 7 bytes free\n"
        )
        monkeypatch.setattr("spool.why.SOON", 0)
        assert told("running") == "1 in incoming/, not taken in yet\n"
    finally:
        locks.give(lock)


@pytest.mark.parametrize("verb", ["cancel", "retry", "hold", "replay"])
def test_a_verb_that_is_piped_no_id_says_so(root: Path, say: Any, verb: str) -> None:
    assert say(verb, "-", stdin="\n")[2] == "spool: no id came on standard input\n"
    assert dropped(root) == []


def test_a_verb_by_a_filter_is_asked_of_what_is_not_taken_in_yet_too(root: Path, say: Any) -> None:
    assert say("cancel", "--task", "mail.*")[1] == "cancel: asked for 0 tasks\n"
    say("submit", "mail.send")
    told = "spool: what matches of 1 in incoming/ as well\n"
    assert say("cancel", "--task", "mail.*", "--dry-run") == (OK, "", told)
    told = "cancel: asked for 0 tasks, and for what matches of 1 in incoming/\n"
    assert say("cancel", "--task", "mail.*")[1] == told
    assert [doc.get("action") for doc in dropped(root)] == [None, "cancel"]


def test_a_table_is_no_wider_than_the_terminal(root: Path) -> None:
    queue(root)
    lines = on_a_terminal("ls", "--all", "--spool", str(root), NO_COLOR="1", COLUMNS="30").splitlines()
    assert all(len(line) <= 30 for line in lines)
    assert any(line.endswith("…") for line in lines)


@pytest.mark.parametrize(("columns", "shown"), [(99, {"ID", "CLASS"}), (60, {"CLASS"}), (40, set())])
def test_where_there_is_no_room_the_names_of_tasks_come_first(
    root: Path, columns: int, shown: set[str]
) -> None:
    take_in(root, new_id(), "mail.welcome.me")
    out = on_a_terminal("ls", "--spool", str(root), NO_COLOR="1", COLUMNS=str(columns))
    head, row = out.splitlines()
    assert {"ID", "CLASS"} & set(head.split()) == shown
    assert "mail.welc" in row


def test_wide_characters_take_two_columns() -> None:
    assert render.clip("漢字漢字", 5) == "漢字…"
    assert render.clip("e\u0301e\u0301", 2) == "e\u0301e\u0301"
    assert render.clip("abc", 3) == "abc"


# wait


@pytest.mark.parametrize(("event", "status"), [("done", 0), ("failed", 1), ("cancelled", 2)])
def test_wait_exits_as_the_task_ended(root: Path, say: Any, event: str, status: int) -> None:
    task_id = new_id()
    record = {"result": {"n": 1}} if event == "done" else {"error": {"type": "x", "message": "no\nway"}}
    put_record(root, task_id, take_in(root, task_id, state=event), event=event, **record)
    got, out, err = say("wait", task_id)
    assert got == status
    assert (out, err.count("\n")) == (('{"n":1}\n', 0) if event == "done" else ("", 1))
    assert json.loads(say("wait", task_id, "--json")[1])["event"] == event


def test_wait_for_many_exits_with_the_worst(root: Path, say: Any) -> None:
    ids = []
    for event in ("failed", "done", "cancelled"):
        ids.append(new_id())
        put_record(root, ids[-1], take_in(root, ids[-1], state=event), event=event)
    assert say("wait", "-", stdin="\n".join(ids))[0] == 1
    assert say("wait", *ids[1:])[0] == 2
    waits = new_id()
    take_in(root, waits)
    assert say("wait", *ids, waits, "--timeout", "0.01")[0] == TEMPFAIL
    assert say("wait", waits, "--timeout", "soon")[0] == DATAERR


# watch


def test_to_watch_is_only_to_look(root: Path, say: Any) -> None:
    put_event(root, "default", NOW, error={"message": "no\x1b"})
    put_event(root, "default", NOW + 1, "progress", percent=40.0, note="half of it\x1b")
    status, out, _ = say("watch", "--once")
    assert status == OK
    assert "done" in out
    assert "no\\x1b" in out
    assert out.endswith(" a attempt 1: 40 % half of it\\x1b\n")
    assert len(os.listdir(root / "outbox" / "default")) == 2


@pytest.mark.parametrize("words", [[], ["--exec", "false"]])
def test_what_others_have_put_into_an_outbox_cannot_control_the_terminal(
    root: Path, say: Any, words: list[str]
) -> None:
    bad = "\x1b[2J\x9b5m\u202e"
    name = put_event(root, "default", NOW, error={"message": bad}, attempt=bad)
    put_event(root, "default", NOW, "progress", percent=40, note=[bad])
    box, whole = root / "outbox" / "default", json.loads((root / "outbox" / "default" / name).read_text())
    (box / name.replace(name[:16], "\x1b]0;TITLE\a", 1)).write_text(json.dumps(whole))
    for number, part in enumerate(("id", "task", "event"), 1):
        other = json.dumps({**whole, part: f"done{bad}\0"})
        (box / name.replace(name[:8], f"2030010{number}")).write_text(other)
    status, out, err = say("watch", "--once", "--keep", *words)
    assert status == (1 if words else OK)
    assert (out + err).count(" done " if not words else "stays") == (1 if not words else 2)
    assert safe(out + err, keep="\n") == out + err


def test_watch_acknowledges_where_it_is_told_to(root: Path, say: Any) -> None:
    for number in range(2):
        put_event(root, "shop", NOW + number)
    rows = [
        json.loads(line) for line in say("watch", "shop", "--once", "--json", "--ack")[1].splitlines()
    ]
    assert len(rows) == 2
    assert os.listdir(root / "outbox" / "shop") == []
    assert say("watch", "shop", "--ack", "--keep")[0] == USAGE
    assert say("watch", "shop", "--timeout", "0.01") == (OK, "", "")


def test_an_event_is_acknowledged_when_its_command_succeeds(root: Path, say: Any, tmp_path: Path) -> None:
    good, bad = put_event(root, "shop", NOW), put_event(root, "shop", NOW + 1, "failed")
    script = tmp_path / "handle it"
    script.write_text('#!/bin/sh\ncat > "$0.$SPOOL_EVENT"; test "$SPOOL_EVENT $1" = "done x y"\n')
    script.chmod(0o700)
    status, _, err = say("watch", "shop", "--once", "--exec", f"'{script}' 'x y'")
    assert (status, err.count("stays")) == (1, 1)
    assert os.listdir(root / "outbox" / "shop") == [bad]
    assert json.loads((tmp_path / "handle it.done").read_text())["id"] in good
    assert say("watch", "shop", "--once", "--keep", "--exec", "true")[0] == OK
    for command, what in (
        ("a 'b", "--exec `a 'b`: no closing quotation"),
        ("", "--exec takes a command"),
    ):
        status, _, err = say("watch", "shop", "--once", "--exec", command)
        assert (status, what in err) == (USAGE, True)
    assert os.listdir(root / "outbox" / "shop") == [bad]


# cancel and the like


@pytest.mark.parametrize("verb", ["cancel", "retry", "hold", "release"])
def test_a_verb_says_how_many_it_asked_for(root: Path, say: Any, verb: str) -> None:
    ids = [new_id() for _ in range(2)]
    status, out, err = say(verb, ids[0], "-", "--why", "so", stdin=f"{ids[1]}\n{ids[0]}\n")
    assert (status, out) == (OK, f"{verb}: asked for 2 tasks\n")
    assert "no spoold serves" in err
    assert dropped(root) == [{"action": verb, "ids": ids, "why": "so"}]


@pytest.mark.parametrize("problem", [OSError(errno.EIO, "no"), TimedOut("late"), NoSuchTask("x")])
def test_once_the_new_task_is_dropped_an_edit_leaves_the_old_one_held_and_says_so(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    take_in(root, old := new_id(), "t", time=NOW + HOUR)
    get = Spool.get

    def broken(self: Spool, task_id: str) -> Any:
        if task_id != old:
            raise problem
        return get(self, task_id)

    monkeypatch.setattr(Spool, "get", broken)
    monkeypatch.setattr(Spool, "carried_out", lambda *_: None)
    monkeypatch.setattr("spool.daemons.any_alive", lambda *_: True)
    monkeypatch.setenv("EDITOR", "sed -i s/meta/x-was/")
    monkeypatch.setattr("tempfile.tempdir", str(root.parent))
    status, _, err = say("edit", old)
    hold, new = dropped(root)
    assert (hold["action"], new["task"]) == ("hold", "t")
    assert f"{new['id']} was submitted; {old} is held until you release or cancel it" in err
    assert (status > 0, "nothing was changed" in err) == (True, False)


def test_an_edit_that_is_refused_says_so_where_the_old_task_is_gone_too(
    root: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_in(root, old := new_id(), "t", time=NOW + HOUR)
    said = iter((None, Refused("new", "its name is not allowed"), Refused(old, "it is cancelled")))

    def carried_out(*_: object) -> None:
        if (problem := next(said)) is not None:
            raise problem

    monkeypatch.setattr(Spool, "carried_out", carried_out)
    monkeypatch.setattr("spool.daemons.any_alive", lambda *_: True)
    monkeypatch.setenv("EDITOR", "sed -i s/meta/x-was/")
    monkeypatch.setattr("tempfile.tempdir", str(root.parent))
    status, _, err = say("edit", old)
    assert "its name is not allowed; and it is cancelled" in err
    assert (status, "nothing was changed" in err) == (DATAERR, False)


def test_many_ids_are_several_actions_and_one_bad_id_stops_all(root: Path, say: Any) -> None:
    ids = [new_id() for _ in range(2500)]
    assert say("cancel", "-", stdin="\n".join(ids))[0] == OK
    assert [len(d["ids"]) for d in dropped(root)] == [1000, 1000, 500]
    assert say("cancel", "-", stdin="\n".join([*ids, "nonsense"]))[0] == DATAERR
    assert len(dropped(root)) == 3
    assert say("cancel", "-", stdin="")[0] == OK


@pytest.mark.parametrize("verb", [*VERBS_OF_TASKS, "replay"])
def test_a_dry_run_prints_the_ids_that_the_verb_can_be_carried_out_on(
    root: Path, say: Any, verb: str
) -> None:
    ids = {state: new_id() for state in layout.STATES}
    for state, task_id in ids.items():
        take_in(root, task_id, state=state)
    takes = {s for s in ids if verb in TABLE[s]} if verb in VERBS_OF_TASKS else set(layout.ENDED)
    unknown, pruned = new_id(), new_id()
    lists = root / "packed" / id_date(pruned)
    lists.mkdir(parents=True)
    (lists / "2099-01-01.1.ids").write_text(f"{pruned} {'0' * 32}\n")
    status, out, err = say(verb, unknown, *ids.values(), "nonsense", pruned, "--dry-run")
    assert (status, set(out.split())) == (DATAERR, {ids[state] for state in takes})
    assert err.count("no task has the id") == 2
    assert f"{pruned} has ended, and nothing but its id is kept" in err
    for state in set(ids) - takes:
        assert f"{ids[state]} is {state} and takes no {verb}" in err
        assert say(verb, "--state", state, "--dry-run")[:2] == (DATAERR, "")
    for state in takes:
        assert say(verb, ids[state], "--dry-run") == (OK, f"{ids[state]}\n", "")
        assert say(verb, ids[state], "--dry-run", "--json") == (OK, f'{{"id":"{ids[state]}"}}\n', "")
        assert say(verb, "--state", state, "--dry-run") == (OK, f"{ids[state]}\n", "")
    assert dropped(root) == []


@pytest.mark.parametrize(("state", "verb"), [("cancelled", "retry"), ("failed", "replay")])
def test_what_ended_before_its_time_is_found_by_that_time(
    root: Path, say: Any, state: str, verb: str
) -> None:
    task_id = new_id()
    take_in(root, task_id, state=state, time=NOW + 2 * DAY_US)
    since = format_utc(NOW + DAY_US)
    found = say(verb, "--state", state, "--since", since, "--dry-run")
    assert found == (OK, f"{task_id}\n", "")


@pytest.mark.parametrize(
    ("attempts", "found"),
    [
        (["error"], True),
        (["error", "lost", "cancelled"], True),
        (["error", "snoozed", "crashed"], True),
        (["error", "ok"], False),
        (["error", "other"], False),
        (["lost"], False),
    ],
)
def test_a_task_is_found_by_its_newest_failure_unless_it_has_succeeded_since(
    root: Path, say: Any, attempts: list[str], *, found: bool
) -> None:
    marks = {"error": "a" * 16, "other": "b" * 16}
    (root / "errors" / f"{marks['error']}.json").touch()
    place = root / take_in(root, task_id := new_id(), state="cancelled", lost=len(attempts) - 1)
    rows = [
        {"attempt": n, "outcome": outcome, "error": {"fingerprint": marks.get(outcome)}}
        for n, outcome in enumerate(attempts, 1)
    ]
    for row in rows:
        put_record(root, task_id, "", **row)
    wanted = (OK, f"{task_id}\n" if found else "")
    words = ("--state", "cancelled", "--error", marks["error"], "--dry-run")
    assert say("retry", *words)[:2] == wanted
    line = packs.line(str(place.relative_to(root)), place.read_bytes(), rows)
    for path in (place, root / layout.own_copy(task_id)):
        path.unlink()
    packed = root / "packed" / id_date(task_id)
    packed.mkdir(parents=True)
    (packed / "2099-01-01.1.jsonl.gz").write_bytes(gzip.compress(line))
    assert say("replay", *words)[:2] == wanted


@pytest.mark.parametrize(("box", "modes"), [(0o700, (0o600, 0o700)), (0o2770, (0o644, 0o750))])
def test_readers_of_a_shared_spool_may_look_at_what_fsck_makes(
    root: Path, say: Any, box: int, modes: tuple[int, int]
) -> None:
    (root / "incoming").chmod(box)
    take_in(root, task_id := new_id(), state="done")
    before = os.umask(0o077)
    try:
        assert say("fsck", "--repair")[0] == OK
    finally:
        os.umask(before)
    made = root / layout.record(task_id, 1)
    assert (made.stat().st_mode & 0o777, made.parent.stat().st_mode & 0o777) == modes


def test_a_replay_of_what_matches_finds_that_in_packs_and_no_other(root: Path, say: Any) -> None:
    first, last, alive = new_id(), new_id(), new_id()
    rows = b""
    for task_id, doc in ((first, {}), (last, {"key": "k", "after": [first]}), (alive, {"key": "k"})):
        path = root / take_in(root, task_id, state="done", doc=doc)
        rows += packs.line(str(path.relative_to(root)), path.read_bytes(), [])
        path.unlink()
    (root / layout.own_copy(alive)).with_name("retried").hardlink_to(root / layout.own_copy(alive))
    place = root / "packed" / id_date(first)
    place.mkdir(parents=True)
    (place / "2099-01-01.1.jsonl.gz").write_bytes(gzip.compress(rows))
    for words in (["--key", "k"], ["--after", first]):
        assert say("replay", *words, "--dry-run") == (OK, f"{last}\n", "")


@pytest.mark.parametrize("fields", [{}, {"duplicate_of": new_id()}])
def test_why_advises_a_retry_only_of_what_takes_one(root: Path, say: Any, fields: dict[str, str]) -> None:
    bad, waits = new_id(), new_id()
    put_record(root, bad, take_in(root, bad, state="cancelled"), "cancelled")
    own = root / layout.own_copy(bad)
    own.write_text(json.dumps({**json.loads(own.read_bytes()), **fields}))
    take_in(root, waits, state="held", why="after", doc={"after": [bad]})
    said = say("why", waits)[1]
    assert f"waits for {bad} (cancelled); " in said
    assert (f"`spool retry {bad}`" in said) == (not fields)
    assert f"`spool release {waits}` lets it go on" in said


def test_a_dry_run_names_what_was_a_duplicate_and_prints_what_is_not_taken_in(
    root: Path, say: Any
) -> None:
    task_id, other = new_id(), new_id()
    take_in(root, task_id, state="cancelled")
    own = root / layout.own_copy(task_id)
    own.write_text(json.dumps({**json.loads(own.read_bytes()), "duplicate_of": other}))
    assert f"was a duplicate of {other}" in say("retry", task_id, "--dry-run")[2]
    waits = say("submit", "a")[1]
    assert say("cancel", waits.strip(), "--dry-run") == (OK, waits, "")


def test_move_says_where_to(root: Path, say: Any) -> None:
    task_id = new_id()
    assert say("move", task_id, "--front", "--priority", "high", "--at", "+1h")[0] == OK
    assert dropped(root) == [
        {"action": "move", "ids": [task_id], "position": "front", "priority": "high", "at": "+1h"}
    ]
    assert say("move", task_id)[0] == DATAERR
    for verb, words in (("move", "--front --back"), ("move", "--front --position back"),
                        ("move", "--back --position front"), ("submit", "--front --position back")):  # fmt: skip
        status, _, err = say(verb, task_id, *words.split())
        assert (status, words.replace(" --", " and --") in err) == (USAGE, True)
    assert len(dropped(root)) == 1


def test_pause_resume_and_drain_say_what_they_are_about(root: Path, say: Any) -> None:
    assert say("pause", "--task", "mail.*", "--why", "down", "--until", "+2h", "--json")[1].startswith(
        '{"action":"pause"'
    )
    assert say("resume", "--task", "mail.*")[1] == "resume: asked for task mail.*\n"
    assert say("drain")[1] == "drain: asked for the whole spool\n"
    assert [d["action"] for d in dropped(root)] == ["pause", "resume", "drain"]
    assert dropped(root)[0]["until"] == "+2h"


@pytest.mark.parametrize("verb", ["pause", "resume", "drain"])
def test_a_node_that_nobody_knows_is_told_of_and_may_be_asked_for(
    root: Path, say: Any, verb: str
) -> None:
    status, out, err = say(verb, "--node", "zzz")
    assert (status, out) == (OK, f"{verb}: asked for node zzz\n")
    assert err.startswith("spool: no node zzz is known here\n")
    (root / "nodes" / "zzz.lock").touch()
    assert "is known here" not in say(verb, "--node", "zzz")[2]
    assert [d["node"] for d in dropped(root)] == ["zzz", "zzz"]


def test_a_schedule_that_nobody_knows_is_told_of_and_may_be_asked_for(root: Path, say: Any) -> None:
    (root / "spool.toml").write_text('[recurring.nightly]\nevery = "0 3 * * *"\ntask = "a"\n')
    for verb in ("pause", "resume"):
        assert "spool: no schedule nope is known here\n" in say(verb, "--task", "@nope")[2]
        assert "is known here" not in say(verb, "--task", "@night*")[2]
    assert [d["task"] for d in dropped(root)] == ["@nope", "@night*"] * 2


@pytest.mark.parametrize("verb", ["log", "edit"])
def test_a_verb_on_one_task_reads_its_id_from_standard_input_too(root: Path, say: Any, verb: str) -> None:
    gone = new_id()
    assert f"no task has the id `{gone}`" in say(verb, "-", stdin=f"{gone}\n")[2]
    for ids, many in (("", 0), (f"{gone}\n{new_id()}\n", 2)):
        status, _, err = say(verb, "-", stdin=ids)
        assert (status, f"takes one ID, and {many} came on standard input" in err) == (USAGE, True)


def test_what_is_packed_is_spoken_of_only_where_something_is(root: Path, say: Any) -> None:
    words = ("retry", "--task", "a", "--wait", "0")
    (root / "packed").mkdir(exist_ok=True)
    assert say(*words) == (OK, "retry: asked for 0 tasks\n", "")
    place = root / "packed" / "2026-11-21"
    place.mkdir()
    (place / "2099-01-01.1.jsonl.gz").write_bytes(gzip.compress(b""))
    assert "`spool replay` finds it too" in say(*words)[2]


def test_waiting_for_an_action_nobody_carries_out_ends(say: Any) -> None:
    assert say("hold", new_id(), "--wait", "0.02")[0] == TEMPFAIL
    assert say("hold", new_id(), "--wait", "0")[0] == OK


def test_what_is_taken_for_the_duration_of_wait_is_named_and_nothing_is_asked(
    root: Path, say: Any
) -> None:
    for words in (["release"], ["release", "--task", "a"], ["errors", "mute"], ["cron", "pause"]):
        task_id = new_id()
        status, _, err = say(*words, "--wait", task_id)
        assert (status, dropped(root)) == (USAGE, [])
        assert f"argument --wait: '{task_id}' was taken for its DURATION, which must be seconds" in err


# status, init, fsck, completion


def test_a_spool_whose_path_is_no_utf8_is_shown_as_json(tmp_path: Path, capsys: Any) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    assert main(["init", place, "--json"]) == OK
    assert main(["--spool", place, "status", "--json"]) == OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["spool"] for row in rows] == [place, place]


def test_status_counts_and_says_that_nobody_serves(root: Path, say: Any) -> None:
    queue(root)
    put_event(root, "shop", NOW)
    status, out, _ = say("status")
    assert status == OK
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "no spoold serves this spool" in lines["daemon"]
    assert lines["pending"].split(maxsplit=1)[1] == "4 (1 high, 2 medium, 1 low)"
    assert lines["unread"].endswith("shop 1")
    found = json.loads(say("status", "--json")[1])
    assert found["counts"]["held"] == 1
    assert found["oldest"] == json.loads(say("shape", "--json")[1])["oldest"]
    assert lines["oldest"].split()[1:3] == [found["oldest"]["id"], found["oldest"]["task"]]


def test_init_makes_a_spool_once(tmp_path: Path, say: Any) -> None:
    place = str(tmp_path / "new")
    assert say("init", place) == (OK, f"made {place}\n", "")
    assert say("init", place) == (OK, f"{place} is a spool already\n", "")
    assert say("init", "--spool", place)[0] == OK
    assert say("init", "--spool", place, f"{place}2")[0] == USAGE
    assert say("init", "/proc/nonsense")[0] != OK


def test_a_node_was_last_seen_when_its_heart_beat_or_its_status_was_written(root: Path, say: Any) -> None:
    (root / "nodes" / "n.lock").touch()
    (root / "nodes" / "n.json").write_text(json.dumps({"written_at": format_utc(NOW)}))
    assert "node n: gone, last seen" in say("status")[1]
    assert "(1 h" in say("status")[1]
    beat = root / layout.ALIVE / "n,a1,n=7,l=30"
    beat.parent.mkdir(exist_ok=True)
    beat.touch()
    assert "(1 h" not in say("status")[1]
    (root / "nodes" / "n.json").write_text(json.dumps({"written_at": format_utc(NOW + 9 * HOUR)}))
    assert "(in 7 h" in say("status")[1]
    (root / "nodes" / "n.json").write_text('{"written_at": "yesterday"}')
    assert "node n: gone, last seen" in say("status")[1]


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, 75), (errno.EROFS, 77), (errno.EACCES, 77), (errno.ENAMETOOLONG, 73)],
)
def test_init_says_why_no_spool_can_be_made(
    tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def mkdir(path: str, mode: int) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert say("init", str(tmp_path / "s")) == (
        status, "", f"spool: cannot make a spool at {tmp_path}/s: {os.strerror(number)}\n"
    )  # fmt: skip
    monkeypatch.undo()
    assert say("init", "/dev/null/x")[0] == EX_CANTCREAT
    with pytest.raises(NotASpool, match="cannot make a spool at /dev/null/x: a file is in the way"):
        init("/dev/null/x")


def test_a_disk_that_fails_while_a_spool_is_made_is_no_wrong_place(
    tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: str, mode: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    status, _, said = say("init", str(tmp_path / "s"))
    assert (status, f"{tmp_path}/s" in said) == (EX_IOERR, True)


@pytest.mark.parametrize(
    "words",
    [["ls", "zzz"], ["top", "zzz"], *([verb, "--state", "zzz"] for verb in ("history", *STATES))],
    ids=" ".join,
)
def test_a_word_that_is_none_of_a_few_is_a_wrong_option(say: Any, words: list[str]) -> None:
    assert say(*words)[0] == EX_USAGE


def test_no_spool_is_made_in_a_spool_nor_is_it_advised(tmp_path: Path, say: Any) -> None:
    say("init", str(tmp_path / "S"))
    (tmp_path / "link").symlink_to(tmp_path / "S" / "pending")
    for inner in ("S/pending", "S/done/2026-11-21", "link"):
        path = tmp_path / inner
        code, _, told = say("init", str(path))
        assert (code, told) == (
            66,
            f"spool: {path} is in the spool {tmp_path}/S; take a directory outside\n",
        )
        code, _, told = say("status", "--spool", str(path))
        assert (code, told) == (66, f"spool: {path} is not a spool; it is in one: {tmp_path}/S\n")
        assert f"spool doctor --spool {tmp_path}/S" in say("doctor", "--spool", str(path))[1]
    assert os.listdir(tmp_path / "S" / "pending") == []


def test_what_stands_above_a_spool_that_is_to_be_made_is_not_waited_for(tmp_path: Path, say: Any) -> None:
    os.mkfifo(tmp_path / "format")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert say("init", str(tmp_path / "S"))[0] == OK
    assert say("init", str(tmp_path / "loop" / "S"))[0] != OK
    (tmp_path / "format").unlink()
    (tmp_path / "format").write_text("spool of thread\n")
    assert say("init", str(tmp_path / "T"))[0] == OK


def test_init_can_be_told_whose_spool_to_make(
    tmp_path: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path / "other"))
    assert say("init", "--user") == (OK, f"made {tmp_path}/state/spool\n", "")
    assert not (tmp_path / "other").exists()
    assert say("init", "--user", "here")[0] == USAGE
    assert say("init", "--user", "--system")[0] == USAGE


def test_the_spool_may_be_named_before_or_after_the_verb(tmp_path: Path, say: Any) -> None:
    place = str(tmp_path / "other")
    init(place)
    assert say("--spool", place, "submit", "a")[0] == OK
    assert say(f"--spool={place}", "submit", "a")[0] == OK
    assert say("submit", "--spool", place, "a")[0] == OK
    assert len(dropped(Path(place))) == 3


def test_fsck_finds_and_mends(root: Path, say: Any) -> None:
    assert say("fsck") == (OK, "", "")
    (root / "held" / "nonsense.json").write_text("{}")
    status, out, _ = say("fsck")
    assert status == 1
    assert "held/nonsense.json" in out
    assert say("fsck", "--repair", "--json")[0] == OK
    assert say("fsck") == (OK, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_every_verb(say: Any, shell: str) -> None:
    status, out, _ = say("completion", shell)
    assert status == OK
    assert all(verb in out for verb in VERBS)
    assert "--on-miss" in out or "-l on-miss" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out.encode(), check=True)


# The whole


@pytest.mark.parametrize("verb", ["dash", "metrics"])
def test_an_address_that_cannot_be_had_is_named(say: Any, verb: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = say(verb, "--listen", where)
    assert (status, err) == (69, f"spool: --listen {where}: Address already in use; choose another one\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(say: Any, verb: str) -> None:
    status, out, err = say(verb, "--help")
    assert (status, err) == (OK, "")
    assert out.startswith(f"usage: spool {verb}")
    assert len(out) > 200
    assert all(len(line) <= 100 for line in out.splitlines())


def test_help_and_version(say: Any) -> None:
    status, out, _ = say("--help")
    assert status == OK
    assert all(f"  {verb}" in out for verb in VERBS)
    assert say("--version")[1].startswith("spool ")
    assert say()[0] == USAGE


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["submt"], "did you mean 'submit'"),
        (["\x1b[31m"], "\\x1b[31m"),
        (["--nonsense", "ls"], "--nonsense"),
        (["--nonsense"], "--nonsense"),
        (["submit"], "name the task"),
        (["submit", "a", "--nonsense"], "--nonsense"),
        (["cancel"], "ID"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_wrong_usage_is_one_line_and_64(say: Any, words: list[str], hint: str) -> None:
    status, out, err = say(*words)
    assert (status, out) == (USAGE, "")
    assert err.startswith("spool: ")
    assert hint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["submit", "a", "--retries", "x"], DATAERR, "retries"),
        (["submit", "a", "novalue"], DATAERR, "key=value"),
        (["submit", "a", "=1"], DATAERR, "key=value"),
        (["submit", "a", "k=1", "k=2"], DATAERR, "once"),
        (["submit", "a", 'k={"x":1,"x":2}'], DATAERR, "once"),
        (["submit", "a", "--args", '{"x":1,"x":2}'], DATAERR, "once"),
        (["submit", "a", "--args", "{"], DATAERR, "args `{`: must be JSON"),
        (
            ["submit", "a", "--args", '{"x":99999999999999999999}'],
            DATAERR,
            "args.x `99999999999999999999`: must",
        ),
        (["submit", "a", "--args", '1,"b":2'], DATAERR, 'args `1,"b":2`: must be JSON'),
        (["submit", "a", "--meta", '{"x":"1","x":"2"}'], DATAERR, "once"),
        (["submit", "a", "--meta", "x=1", "--meta", "x=2"], DATAERR, "once"),
        (["submit", "a", "--backoff", '{"base":1,"base":2}'], DATAERR, "once"),
        (["submit", "a", "--at", "\x1b"], DATAERR, "\\x1b"),
        (["--spool", "/no/such/spool", "ls"], NOINPUT, "spool init"),
    ],
)
def test_errors_are_one_safe_line_with_their_status(
    say: Any, words: list[str], code: int, hint: str
) -> None:
    status, out, err = say(*words)
    assert (status, out) == (code, "")
    assert err.startswith("spool: ")
    assert hint in err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_a_reader_that_has_gone_is_no_error_message(root: Path) -> None:
    for _ in range(30):
        take_in(root, new_id(), "x" * 60)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "spool", "ls", "--spool", str(root)],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("every", "sentence"),
    [
        ("0 0 * * 1", "At 00:00 on Monday."),
        ("0 0 1-31 * 1", "At 00:00 every day."),
        ("0 0 1 6 1-7", "At 00:00 every day in June."),
        ("0 0 13 * FRI", "At 00:00 on the 13th day of month and on Friday; either suffices."),
        ("0 0 L * MON#2",
         "At 00:00 on the last day of the month and on the second Monday of the month; either suffices."),
        ("0 0 */2 * 1", "At 00:00 on every second day of month if it's on Monday."),
    ],
)  # fmt: skip
def test_an_expression_whose_days_are_told_twice_is_explained_as_it_counts(
    say: Any, every: str, sentence: str
) -> None:
    status, out, _ = say("cron", "explain", every)
    assert (status, out.splitlines()[0]) == (OK, sentence)


def test_a_schedule_that_is_broken_says_so_wherever_it_is_named_and_can_be_paused(
    root: Path, say: Any
) -> None:
    lost = {"every": "@daily", "task": "a", "timezone": "No/Zone"}
    rows = [{"name": "lost", "table": lost}, {"name": "odd", "table": []}]
    (root / "nodes" / "schedules.json").write_text(json.dumps(rows))
    told = {
        row["name"]: row["problem"]
        for row in map(json.loads, say("cron", "ls", "--json")[1].splitlines())
    }
    assert "must be a time zone" in told["lost"]
    assert "must be a table" in told["odd"]
    for what in ("next", "run"):
        status, _, err = say("cron", what, "lost")
        assert (status, err) == (DATAERR, f"spool: NAME `lost`: is broken: {told['lost']}\n")
    assert say("cron", "pause", "lost")[0] == OK
    assert [doc["task"] for doc in dropped(root)] == ["@lost"]
    assert "is no schedule" in say("cron", "pause", "none")[2]


def test_cron_run_submits_what_the_schedule_says_of_its_tasks(root: Path, say: Any) -> None:
    body = {"backoff": {"base": 1, "factor": 3.0, "max": 60}, "lead": 5, "version": 3, "on_miss": "drop",
            "position": "front", "x-note": [1]}  # fmt: skip
    table = {"every": "@daily", "task": "a", "deadline": "2h", "meta": {"a": 1}, "spread": "1h", **body}
    (root / "nodes" / "schedules.json").write_text(json.dumps([{"name": "n", "table": table}]))
    assert say("cron", "run", "n")[0] == OK
    (doc,) = dropped(root)
    more = {"deadline": "+7200.000000s", "key": "recurring n", "meta": {"a": 1, "recurring": "n"}}
    assert doc == {"id": doc["id"], "task": "a", "args": {}, **body, **more}


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        (["submit", "a", "--json"], ">&-", OK),
        (["submit", "a b"], "2>&-", DATAERR),
        (["submit", "a", "--args", "-"], "<&-", DATAERR),
        (["ls"], "<&- >&- 2>&-", OK),
    ],
)
def test_a_standard_stream_that_is_closed_is_as_if_dev_null_were_there(
    root: Path, words: list[str], closed: str, status: int
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "spool", *words],
        env={**os.environ, "SPOOL_DIR": str(root), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr


def test_what_nobody_can_be_told_leaves_no_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "out", "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        before = os.listdir("/proc/self/fd")
        streams.give_up()
        assert os.listdir("/proc/self/fd") == before
        file.write("lost")
    assert not (tmp_path / "out").read_text()


def test_a_group_replayed_elsewhere_waits_for_its_own_and_has_other_results_as_values(
    root: Path, tmp_path: Path, say: Any
) -> None:
    first, last, other = new_id(), new_id(), new_id()
    late = {"args": [{"$result": first}, {"$result": other, "path": "u"}], "after": [first, other]}
    for task_id, doc in ((last, {**late, "on_failure": "run"}), (first, {}), (other, {})):
        path = take_in(root, task_id, state="done", doc=doc)
        put_record(root, task_id, path, result={"u": 5}, task="a")
    init(str(tmp_path / "other"))
    words = ("replay", last, first, "--into", str(tmp_path / "other"), "--yes", "--json")
    status, out, _ = say(*words)
    assert status == OK
    (doc,) = dropped(tmp_path / "other")
    one, two = doc["tasks"]
    assert [one["id"], two["id"]] == json.loads(out)["ids"]
    assert (one["replay_of"], two["replay_of"]) == (first, last)
    assert (two["after"], two["on_failure"]) == ([one["id"]], "run")
    assert two["args"] == [{"$result": one["id"]}, 5]
    assert say("replay", last, "--into", str(tmp_path / "other"), "--json")[0] == OK
    (alone,) = [doc for doc in dropped(tmp_path / "other") if len(doc["tasks"]) == 1]
    assert alone["tasks"][0]["args"] == [{"u": 5}, 5]
    assert not alone["tasks"][0].keys() & {"after", "on_failure"}


def test_a_replay_elsewhere_that_is_gone_on_with_says_what_is_there_already(
    root: Path, tmp_path: Path, say: Any
) -> None:
    one, two = new_id(), new_id()
    for task_id in (one, two):
        take_in(root, task_id, state="done", doc={})
    other, key = tmp_path / "other", new_id()
    init(str(other))
    words = ("--into", str(other), "--id", key, "--yes")
    assert say("replay", one, *words)[:2] == (OK, f"replay: submitted 1 task to {other}\n")
    said = f"replay: submitted 1 task to {other}, 1 task there already\n"
    assert say("replay", one, two, *words)[:2] == (OK, said)
    lie = [task["id"] for doc in dropped(other) for task in doc["tasks"]]
    for path in (other / "incoming").glob("*.json"):
        path.unlink()
    for task_id in lie:
        take_in(other, task_id, state="done", doc={})
    status, out, _ = say("replay", one, two, *words, "--json")
    assert (status, sorted(lie)) == (OK, json.loads(out)["there"])
    assert dropped(other) == []


def test_what_had_a_key_one_after_another_is_replayed_elsewhere_in_files_of_its_own(
    root: Path, tmp_path: Path, say: Any
) -> None:
    one, two, third = (new_id() for _ in range(3))
    for task_id, doc in ((one, {"key": "k"}), (two, {"key": "k"}), (third, {"after": [two]})):
        take_in(root, task_id, state="done", doc=doc)
    init(str(tmp_path / "other"))
    status, out, err = say(
        "replay", third, one, two, "--into", str(tmp_path / "other"), "--yes", "--json"
    )
    assert status == OK
    assert "spool: 1 task with the key of a later one: duplicates of it until it has ended\n" in err
    files = [[task["replay_of"] for task in doc["tasks"]] for doc in dropped(tmp_path / "other")]
    assert [{one, two} & {*names} for names in files] == [{two}, {one}]
    assert len(json.loads(out)["ids"]) == 3


def test_a_task_is_replayed_with_or_after_the_one_it_waits_for() -> None:
    docs: list[dict[str, Any]] = [
        {"id": "1", "key": "k"},
        {"id": "2", "key": "k"},
        {"id": "3", "after": ["2", "gone"], "key": "other"},
        {"id": "4", "key": "other"},
        {"id": "5"},
    ]
    assert [[doc["id"] for doc in some] for some in _rounds(docs)] == [["1", "5"], ["2", "3"], ["4"]]


def test_status_of_two_daemons_says_which_one_each_line_is_of() -> None:
    from types import SimpleNamespace
    from typing import Any, cast

    from spool import layout
    from spool.command.status import _facts
    from spool.disk import Free

    roomy = SimpleNamespace(free=lambda: Free(1 << 30, 1 << 20))
    reasons = cast(Any, SimpleNamespace(now=0, disk=roomy))

    node = {"alive": True, "state": "running", "pid": 1, "next": None, "gate": {"open": True}}
    rows = {name: {**node, "held_back": [{"why": f"{name} is full", "ready": 1}]} for name in ("a", "b")}
    counts = {"incoming": 0, "pending/high": 0, **dict.fromkeys(layout.STATES, 0)}
    found: dict[str, Any] = {
        "spool": "s", "alive": True, "nodes": rows, "counts": counts, "counted_at": None, "complete": True, "oldest": None,
        "pauses": [], "outboxes": {},
    }  # fmt: skip
    told = [f"{k} {v}" for k, v in _facts(found, reasons) if k in ("on node", "held back")]
    assert [line.split(":")[-1] for line in told] == [
        "on node a",
        " a is full",
        "on node b",
        " b is full",
    ]
    del rows["b"]
    assert "on node" not in dict(_facts(found, reasons))
