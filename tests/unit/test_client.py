"""The client keeps its promises with no daemon there: what it writes, what it refuses, what a failure leaves."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import pwd
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import spool
from spool import (
    Full,
    Invalid,
    NoSuchTask,
    NotAllowed,
    NotASpool,
    Refused,
    Spool,
    TimedOut,
    layout,
    task,
)
from spool.actions import encode_task, interpret
from spool.command.main import main
from spool.disk import DiskFull, RealDisk
from spool.drop import Box
from spool.init import default_dir, init
from spool.names import Entry, event_name, new_id
from spool.strict import decode
from spool.testing import Tester
from spool.times import HOUR, format_utc

NOW = time.time_ns() // 1000 - 3_600_000_000
YEAR = date.today().year + 1
ROOT = Path(__file__).parents[2]
STEPS = 6  # of two files: write, write, sync, move, move, sync the directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "a [s]pool*"
    init(str(place))
    return place


@pytest.fixture
def client(root: Path) -> Spool:
    return Spool(root)


def dropped(root: Path) -> list[dict[str, Any]]:
    """What spoold would find in incoming/, by name."""
    names = sorted(n for n in os.listdir(root / "incoming") if not n.startswith("."))
    return [json.loads((root / "incoming" / name).read_bytes()) for name in names]


def nothing_is_left(root: Path) -> bool:
    return not os.listdir(root / "incoming") and not os.listdir(root / "tmp")


def deep(levels: int) -> dict[str, Any]:
    """An object of so many levels."""
    return {"a": deep(levels - 1)} if levels > 1 else {}


def take_in(root: Path, task_id: str, task: str = "a", state: str = "pending", **more: Any) -> str:
    """What spoold does with a submission: the own copy, and its entry; its path."""
    doc = {"task": task, "id": task_id, **more.pop("doc", {})}
    made = interpret(doc, now=NOW, dropped=NOW, zone=UTC, uid=1000).tasks[0]  # type: ignore[union-attr]
    entry = Entry(id=task_id, task=task, **{"time": NOW, **more})
    path = {
        "pending": layout.pending(entry),
        "held": layout.held(entry),
        "running": layout.running("n", entry),
    }.get(state, layout.ended(state, NOW, entry))
    for place in (path, layout.own_copy(task_id)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(encode_task(made))
    os.link(root / path, root / layout.own_copy(task_id))
    return path


def put_record(
    root: Path, task_id: str, entry: str, event: str = "done", attempt: int = 1, **more: Any
) -> None:
    path = root / layout.record(task_id, attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "id": task_id,
        "event": event,
        "attempt": attempt,
        "entry": entry,
        "will_retry": False,
        **more,
    }
    staged = path.with_name(f".{path.name}")
    staged.write_text(json.dumps(body))
    staged.rename(path)


def put_event(root: Path, parent: str, us: int, event: str = "done", **more: Any) -> str:
    task_id = new_id()
    name = event_name(us, task_id, "a", event)
    place = root / "outbox" / parent
    place.mkdir(parents=True, exist_ok=True)
    (place / f".{name}").write_text(
        json.dumps({"id": task_id, "event": event, "task": "a", "attempt": 1, **more})
    )
    (place / f".{name}").rename(place / name)
    return name


class Faulty(RealDisk):
    """A disk whose n-th step fails; the steps after it work."""

    def __init__(self, root: str, fails_at: int, error: OSError) -> None:
        super().__init__(root)
        self.left = fails_at
        self.error = error

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        self._step()
        super().write(path, data, private=private)

    def move(self, source: str, target: str) -> None:
        self._step()
        super().move(source, target)

    def sync(self, paths: Any, dirs: Any = ()) -> None:
        self._step()
        super().sync(paths, dirs)

    def sync_dirs(self, paths: Any) -> None:
        self._step()
        super().sync_dirs(paths)


# Opening.


def test_a_directory_that_is_no_spool_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotASpool, match="spool init"):
        Spool(tmp_path)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"SPOOL_DIR": "q", "HOME": "/h"}, "q"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/spool"),
        ({"XDG_STATE_HOME": "s", "HOME": "/h"}, "/h/.local/state/spool"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/spool"),
        ({"HOME": ""}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.local/state/spool"),
        ({}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.local/state/spool"),
    ],
)
def test_where_a_spool_is_that_nobody_names(environ, place):
    assert default_dir(environ) == place


def test_the_users_own_spool_is_made_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPOOL_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Spool()
    assert made.path == str(tmp_path / "state" / "spool")
    assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o700
    assert Spool(made.path).path == made.path


def test_a_spool_that_spool_dir_names_is_not_made_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path / "typo"))
    with pytest.raises(NotASpool):
        Spool()
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("text", "durable"),
    [
        ("", True),
        ('# durability = "relaxed"\n', True),
        ('durability = "relaxed"\n', False),
        ('durability = "durable"\n', True),
        ('[handlers."x"]\nexec = ["durability"]\n', True),
        ('durability = "relaxed\n', True),
    ],
)
def test_durability_is_what_the_settings_say_and_a_broken_file_stops_nobody(
    root: Path, text: str, durable: bool
) -> None:
    (root / "spool.toml").write_text(text)
    assert Spool(root).durable is durable
    assert Spool(root, durability="relaxed").durable is False
    assert Spool(root, durability="durable").durable is True


def test_a_durability_that_is_none_is_refused(root: Path) -> None:
    with pytest.raises(Invalid, match="durability"):
        Spool(root, durability="safe")  # type: ignore[arg-type]


# Submitting.


def test_a_submission_is_one_private_file_named_by_the_id_it_returns(root: Path, client: Spool) -> None:
    task_id = client.submit("mail.welcome", {"to": "Zoë"}, priority="high", position="front", retries=0)
    assert os.listdir(root / "incoming") == [f"{task_id}.json"]
    assert not os.listdir(root / "tmp")
    assert stat.S_IMODE(os.stat(root / "incoming" / f"{task_id}.json").st_mode) == 0o600
    assert dropped(root) == [
        {
            "id": task_id,
            "task": "mail.welcome",
            "args": {"to": "Zoë"},
            "priority": "high",
            "position": "front",
            "retries": 0,
        }
    ]


def test_what_is_left_out_is_not_written(root: Path, client: Spool) -> None:
    task_id = client.submit("a")
    assert dropped(root) == [{"id": task_id, "task": "a"}]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (datetime(YEAR, 11, 21, 14, 30, tzinfo=UTC), f"{YEAR}-11-21T14:30:00Z"),
        (
            datetime(YEAR, 11, 21, 14, 30, 0, 5, tzinfo=ZoneInfo("Europe/Rome")),
            f"{YEAR}-11-21T13:30:00.000005Z",
        ),
        (
            datetime(YEAR, 11, 21, 14, 30, tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=7))),
            f"{YEAR}-11-21T08:59:53Z",
        ),
        (datetime(YEAR, 11, 21, 14, 30), f"{YEAR}-11-21T14:30:00"),
        (date(YEAR, 11, 21), f"{YEAR}-11-21"),
        (timedelta(minutes=2, microseconds=3), "+120.000003s"),
        ("+2h30m", "+2h30m"),
        pytest.param(NOW // 1_000_000, NOW // 1_000_000, id="unix"),
    ],
)
def test_every_way_to_say_a_time_is_written_as_an_action_says_it(
    root: Path, client: Spool, given: Any, written: Any
) -> None:
    client.submit("a", at=given, deadline=given)
    assert [(d["at"], d["deadline"]) for d in dropped(root)] == [(written, written)]


def test_durations_may_be_timedeltas(root: Path, client: Spool) -> None:
    client.submit(
        "a", timeout=timedelta(minutes=2), lead="5s", backoff={"base": timedelta(seconds=1), "factor": 3}
    )
    assert dropped(root)[0]["timeout"] == 120
    assert dropped(root)[0]["backoff"] == {"base": 1.0, "factor": 3}


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("task", lambda c: c.submit("a b")),
        ("task", lambda c: c.submit("")),
        ("retries", lambda c: c.submit("a", retries=-1)),
        ("at", lambda c: c.submit("a", at="soon")),
        ("time", lambda c: c.submit("a", at=timedelta(seconds=-1))),
        ("tz", lambda c: c.submit("a", tz="Europe/Atlantis")),
        ("priority", lambda c: c.submit("a", priority="urgent")),
        ("id", lambda c: c.submit("a", id="1")),
        ("meta", lambda c: c.submit("a", meta={"x": "y" * 70_000})),
        ("args.x[1]", lambda c: c.submit("a", {"x": [1.0, float("nan")]})),
        ("args", lambda c: c.submit("a", float("inf"))),
        ("args", lambda c: c.submit("a", {1: 2})),
        ("args", lambda c: c.submit("a", {1, 2})),
        ("args", lambda c: c.submit("a", object())),
        ("args", lambda c: c.submit("a", "x" * (1 << 20))),
        ("args.y", lambda c: c.submit("a", {"x": [1], "y": "x" * (1 << 20)})),
        ("args.x[1].y", lambda c: c.submit("a", {"x": [1, {"y": 1 << 64}]})),
        ("args", lambda c: c.submit("a", 1 << 70)),
        ("meta.half", lambda c: c.submit("a", meta={"half": "\ud800"})),
        ("document", lambda c: c.submit_one({"task": "a", "\ud800": 1})),
        ("priority", lambda c: c.submit_one({"task": "a", "priority": None})),
        ("colour", lambda c: c.submit_one({"task": "a", "colour": 1})),
        ("action", lambda c: c.act({"action": "explode"})),
        ("ids", lambda c: c.cancel()),
        ("ids[0]", lambda c: c.cancel("nonsense")),
        ("move", lambda c: c.move(new_id())),
        ("attempt", lambda c: c.ack(new_id(), 0)),
        ("node", lambda c: c.pause(node="n", task="t")),
        ("percent", lambda c: c.progress(new_id(), 1, 101)),
        ("tasks[1].task", lambda c: c.submit_many([{"task": "a"}, {"task": "?"}])),
        ("tasks[1200].task", lambda c: c.submit_many([{"task": "a"}] * 1200 + [{}])),
        ("tasks[1].every", lambda c: c.submit_many([{"task": "a"}, {"task": "b", "every": "1h"}])),
        (
            "tasks[2].key",
            lambda c: c.submit_many([{"task": t, "key": "k" + t[0]} for t in ("a", "b", "a.b")]),
        ),
        ("tasks[0].action", lambda c: c.submit_many([{"action": "cancel", "ids": []}])),
        ("tasks[1]", lambda c: c.submit_many([{"task": "a"}, "b"])),
        ("then", lambda c: c.submit_many([{"task": "a"}], then="b")),
        ("task", lambda c: c.submit_one(5)),
        ("task", lambda c: c.submit_one(None)),
        ("tasks[1].args.a", lambda c: c.submit_many([{"task": "a"}, {"task": "b", "args": deep(30)}])),
        ("args.a", lambda c: c.submit("a", deep(32))),
        ("args.y", lambda c: c.submit("a", {"x": "[" * 40, "y": deep(31)})),
        ("files", lambda c: c.submit("a", files=["b"])),
        ("tasks[0].files", lambda c: c.submit_many([{"task": "a", "files": ["b"]}])),
        (
            "tasks[1].id",
            lambda c: c.submit_many([{"task": "a", "id": "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"}] * 2),
        ),
    ],
)
def test_what_spoold_would_refuse_is_refused_before_anything_is_written(
    root: Path, client: Spool, field: str, call: Any
) -> None:
    with pytest.raises(Invalid) as caught:
        call(client)
    assert caught.value.field == field
    assert caught.value.exit_code == 65
    assert nothing_is_left(root)


def test_local_times_are_checked_in_the_zone_they_are_read_in(root: Path) -> None:
    last, first = "Etc/GMT+12", "Etc/GMT-14"  # on these clocks it is still yesterday, tomorrow already

    def local(zone: str, hours: int) -> datetime:
        return datetime.now(ZoneInfo(zone)).replace(tzinfo=None) + timedelta(hours=hours)

    (root / "spool.toml").write_text(f'timezone = "{last}"\n')
    client = Spool(root)
    client.pause(until=local(last, 1))
    client.act({"action": "pause", "until": local(first, 1), "tz": first})
    for bad in ({"until": local(last, -1)}, {"until": local(first, -1), "tz": first}):
        with pytest.raises(Invalid, match="still to come"):
            client.act({"action": "pause", **bad})

    (root / "spool.toml").write_text(f'timezone = "{first}"\n')
    with pytest.raises(Invalid, match="from 2000"):
        Spool(root).preview({"task": "a", "at": "2000-01-01"})

    for unknown in ("", 'timezone = "No/Where"\n'):
        (root / "spool.toml").write_text(unknown)
        Spool(root).pause(until=local(last, 1))


def test_a_lone_surrogate_is_refused(root: Path, client: Spool) -> None:
    with pytest.raises(Invalid):
        client.submit("a", {"x": "\ud800"})
    assert nothing_is_left(root)


def test_two_submissions_with_one_id_are_both_there_for_spoold_to_judge(
    root: Path, client: Spool
) -> None:
    task_id = new_id()
    assert client.submit("a", {"n": 1}, id=task_id) == client.submit("a", {"n": 2}, id=task_id) == task_id
    assert sorted(d["args"]["n"] for d in dropped(root)) == [1, 2]
    assert client.get(task_id).state == "incoming"


def test_many_tasks_are_few_files_in_order_with_their_ids(root: Path, client: Spool) -> None:
    ids = client.submit_many({"task": "a", "args": {"n": n}} for n in range(2500))
    files = dropped(root)
    assert [len(f["tasks"]) for f in files] == [1000, 1000, 500]
    tasks = [task for f in files for task in f["tasks"]]
    assert [t["id"] for t in tasks] == ids
    assert [t["args"]["n"] for t in tasks] == list(range(2500))


def test_no_file_is_larger_than_spoold_takes(root: Path) -> None:
    (root / "spool.toml").write_text('max_action_bytes = "4KiB"\n')
    client = Spool(root)
    ids = client.submit_many([{"task": "a", "args": "x" * 1000}] * 10)
    files = list((root / "incoming").iterdir())
    assert len(files) == 4
    assert all(f.stat().st_size <= 4096 for f in files)
    assert len(set(ids)) == 10
    with pytest.raises(Invalid, match="4"):
        client.submit("a", "x" * 4096)


def test_what_is_deep_is_measured_where_it_will_stand(root: Path, client: Spool) -> None:
    client.submit("a", deep(31))
    client.submit_many([{"task": "a"}, {"task": "a", "args": deep(29)}])
    with pytest.raises(Invalid):
        client.submit_many([{"task": "a", "args": deep(30)}])
    for file in (root / "incoming").iterdir():
        assert decode(file.read_bytes())


def test_tasks_that_name_each_other_and_one_for_the_end_are_one_file(root: Path, client: Spool) -> None:
    bodies = [{"task": "a", "ref": "first"}, {"task": "b", "after": ["first"], "at": timedelta(hours=1)}]
    ids = client.submit_many(bodies, then={"task": "c", "on_failure": "only", "at": date(YEAR, 1, 2)})
    assert client.submit_many([{"task": "a"}] * 1500, then={"task": "c"})
    (two, more) = sorted(dropped(root), key=lambda doc: len(doc["tasks"]))
    assert [task["id"] for task in (*two["tasks"], two["then"])] == ids
    assert (two["tasks"][1]["at"], two["then"]["at"]) == ("+3600.000000s", f"{YEAR}-01-02")
    assert len(more["tasks"]) == 1500


def test_tasks_run_in_the_order_they_were_submitted_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spool.batch.BATCH", 7)
    ran: list[int] = []

    @task("client.order")
    def _(n: int) -> None:
        ran.append(n)

    bodies = [{"task": "client.order", "args": {"n": n}} for n in range(100)]
    kit = Tester(tmp_path)
    for body in bodies[:30]:
        kit.spool.submit_one(body)
    kit.spool.submit_many(bodies[30:50])
    (tmp_path / "lines").write_text("".join(f"{json.dumps(body)}\n" for body in bodies[50:70]))
    assert main(["--spool", kit.path, "submit", "--file", str(tmp_path / "lines")]) == 0
    for body in bodies[70:]:
        kit.spool.submit_one(body)
    kit.run_ready()
    kit.close()
    assert ran == [*range(100)]


@pytest.mark.parametrize(
    ("field", "tasks", "then"),
    [
        ("then.prioritty", [{"task": "a"}], {"task": "b", "prioritty": 1}),
        ("then.after", [{"task": "a"}], {"task": "b", "after": []}),
        ("tasks", [], {"task": "b"}),
        ("tasks", [{"task": "a"}] * 10_001, {"task": "b"}),
        ("tasks", [{"task": "a", "ref": "r"}] + [{"task": "a"}] * 10_000, None),
        ("tasks[1].after", [{"task": "a", "ref": "one"}, {"task": "a", "after": ["oen"]}], None),
        ("tasks", [{"task": "a", "args": "x" * 2000}] * 600, {"task": "b"}),
    ],
)
def test_what_cannot_be_one_batch_is_refused_by_field(
    root: Path, client: Spool, field: str, tasks: Any, then: Any
) -> None:
    with pytest.raises(Invalid) as caught:
        client.submit_many(tasks, then=then)
    assert caught.value.field == field
    assert nothing_is_left(root)


def test_a_task_with_every_is_a_schedule_and_no_id_is_made_up_for_it(root: Path, client: Spool) -> None:
    assert client.submit_one({"task": "a", "every": "@daily"}) == "a"
    assert client.submit_one({"task": "a", "every": "@daily", "key": "mine"}) == "mine"
    assert not any("id" in doc for doc in dropped(root))


def test_no_tasks_are_no_files(root: Path, client: Spool) -> None:
    assert client.submit_many([]) == []
    assert nothing_is_left(root)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (DiskFull(errno.ENOSPC, "No space left on device"), Full),
        (DiskFull(errno.EDQUOT, "Disk quota exceeded"), Full),
        (PermissionError(errno.EACCES, "Permission denied"), NotAllowed),
        (PermissionError(errno.EPERM, "Operation not permitted"), NotAllowed),
        (OSError(errno.EROFS, "Read-only file system"), NotAllowed),
        (OSError(errno.EIO, "Input/output error"), OSError),
    ],
)
def test_a_submission_that_fails_at_any_step_leaves_nothing(
    root: Path, client: Spool, step: int, error: OSError, raised: type[Exception]
) -> None:
    client.disk = Faulty(client.path, step, error)
    with pytest.raises(raised) as caught:
        client.submit_many([{"task": "a"}] * 2000)
    if raised is not OSError:
        assert str(root) in str(caught.value)
    if raised is Full:  # before anything was moved, or after
        assert ("nothing was submitted" in str(caught.value)) is (step < 5)
    assert nothing_is_left(root)


def test_a_submission_of_two_files_has_no_more_steps_than_were_tried(client: Spool) -> None:
    client.disk = Faulty(client.path, STEPS + 1, OSError())
    assert len(client.submit_many([{"task": "a"}] * 2000)) == 2000


def test_an_interrupt_while_tasks_are_still_being_made_leaves_nothing(root: Path, client: Spool) -> None:
    def tasks() -> Any:
        for _ in range(1500):
            yield {"task": "a"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.submit_many(tasks())
    assert nothing_is_left(root)


def test_relaxed_syncs_nothing_and_durable_file_then_directory(root: Path) -> None:
    seen: list[str] = []

    class Noted(RealDisk):
        def move(self, source: str, target: str) -> None:
            seen.append("move")
            super().move(source, target)

        def sync(self, paths: Any, dirs: Any = ()) -> None:
            seen.append("sync")
            super().sync(paths, dirs)

        def sync_dirs(self, paths: Any) -> None:
            seen.extend(paths)
            super().sync_dirs(paths)

    client = Spool(root, durability="relaxed")
    client.disk = Noted(client.path)
    client.submit("a")
    assert seen == ["move"]
    seen.clear()
    client.durable = True
    client.submit("a")
    assert seen == ["sync", "move", "incoming"]


def test_a_spool_that_has_gone_is_told_apart_from_a_task_that_has(root: Path, client: Spool) -> None:
    (root / "tmp").rmdir()
    with pytest.raises(NotASpool, match="tmp"):
        client.submit("a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_spool_of_somebody_else_names_path_and_user(root: Path, client: Spool) -> None:
    (root / "tmp").chmod(0o500)
    with pytest.raises(NotAllowed, match=str(os.getuid())):
        client.submit("a")


# Other actions.


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (lambda c, i: c.cancel(i, why="no"), {"action": "cancel", "why": "no"}),
        (lambda c, i: c.retry(i), {"action": "retry"}),
        (lambda c, i: c.hold(i), {"action": "hold"}),
        (lambda c, i: c.release(i), {"action": "release"}),
        (
            lambda c, i: c.move(i, priority="low", at="+1h"),
            {"action": "move", "priority": "low", "at": "+1h"},
        ),
    ],
)
def test_a_verb_is_an_action_with_ids(
    root: Path, client: Spool, call: Any, written: dict[str, Any]
) -> None:
    task_id = new_id()
    stem = call(client, task_id)
    assert os.listdir(root / "incoming") == [f"{stem}.json"]
    assert dropped(root) == [{"ids": [task_id], **written}]


@pytest.mark.parametrize(
    ("action", "field", "name"),
    [("cancel", "ids", "019aa8f5a00070008000000000000000"), ("resolve", "errors", "0123456789abcdef")],
)
def test_a_set_of_what_an_action_is_about_is_a_list(
    root: Path, client: Spool, action: str, field: str, name: str
) -> None:
    client.act({"action": action, field: {name}})
    assert dropped(root) == [{"action": action, field: [name]}]


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (lambda c, i: c.ack(i, 2, {"a": 1}), {"action": "ack", "result": {"a": 1}}),
        (lambda c, i: c.ack(i, 2), {"action": "ack"}),
        (lambda c, i: c.fail(i, 2, "no", retry=False), {"action": "fail", "error": "no", "retry": False}),
        (
            lambda c, i: c.fail(i, 2, ValueError("no"), delay=timedelta(seconds=9)),
            {
                "action": "fail",
                "error": {"type": "ValueError", "message": "no"},
                "retry": True,
                "delay": 9,
            },
        ),
        (lambda c, i: c.extend(i, 2, "1m"), {"action": "extend", "by": "1m"}),
        (
            lambda c, i: c.progress(i, 2, 50, "half"),
            {"action": "progress", "percent": 50, "note": "half"},
        ),
    ],
)
def test_a_word_about_an_attempt_carries_its_number(
    root: Path, client: Spool, call: Any, written: dict[str, Any]
) -> None:
    task_id = new_id()
    call(client, task_id)
    assert dropped(root) == [{"id": task_id, "attempt": 2, **written}]


def test_a_pause_says_who_asked(root: Path, client: Spool) -> None:
    client.pause(task="mail.*", why="relay is down", until=timedelta(hours=1))
    client.resume(task="mail.*")
    client.drain()
    # Names made within one millisecond are in no order.
    found = {action["action"]: action for action in dropped(root)}
    first = found["pause"]
    assert first.pop("who")
    assert first == {
        "action": "pause",
        "task": "mail.*",
        "why": "relay is down",
        "until": "+3600.000000s",
    }
    assert set(found) == {"pause", "resume", "drain"}


def test_an_action_is_carried_out_when_its_file_is_gone(root: Path, client: Spool) -> None:
    stem = client.hold(new_id())
    with pytest.raises(TimedOut):
        client.carried_out(stem, 0.01)
    timer = threading.Timer(0.05, os.unlink, [root / "incoming" / f"{stem}.json"])
    timer.start()
    client.carried_out(stem, 20)
    timer.join()


def test_an_action_that_was_handed_on_to_another_node_is_not_carried_out_yet(
    root: Path, client: Spool
) -> None:
    stem = client.hold(new_id())
    handed_on = root / "incoming" / f"to,far,{stem}.json"
    (root / "incoming" / f"{stem}.json").rename(handed_on)
    with pytest.raises(TimedOut):
        client.carried_out(stem, 0.01)
    handed_on.unlink()
    client.carried_out(stem, 5)


def test_a_refusal_carries_the_reason(root: Path, client: Spool) -> None:
    task_id = new_id()
    stem = client.hold(task_id)
    from spool.names import date_of, id_time

    place = root / "rejected" / date_of(id_time(stem))
    place.mkdir()
    text = f"id `{task_id}`: is done"
    (place / f"{stem}.json.reason.json").write_text(json.dumps({"rule": "is done", "text": text}))
    (root / "incoming" / f"{stem}.json").rename(place / f"{stem}.json")
    with pytest.raises(Refused, match=text):
        client.carried_out(stem, 5)


# Looking.


def test_a_task_is_known_before_anybody_took_it_in(client: Spool) -> None:
    one = client.submit("a", {"x": 1}, meta={"k": "v"})
    many = client.submit_many([{"task": "b", "args": n} for n in range(3)])
    found = client.get(one)
    assert (found.state, found.task, found.args, found.meta, found.attempt) == (
        "incoming",
        "a",
        {"x": 1},
        {"k": "v"},
        1,
    )
    assert client.get(many[2]).args == 2
    assert found.uid == os.getuid()


@pytest.mark.parametrize("task_id", ["", "x", "../../etc/passwd", "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"])
def test_an_id_nobody_has_is_no_task(client: Spool, task_id: str) -> None:
    with pytest.raises(NoSuchTask):
        client.get(task_id)
    with pytest.raises(NoSuchTask):
        client.wait(task_id, 0)


@pytest.mark.parametrize("state", layout.STATES)
def test_a_task_is_found_in_every_state(root: Path, client: Spool, state: str) -> None:
    task_id = new_id()
    path = take_in(
        root, task_id, state=state, prio="low", base="low", doc={"args": [1], "notify": "shop"}
    )
    found = client.get(task_id)
    assert (found.state, found.path, found.priority, found.args, found.notify) == (
        state,
        path,
        "low",
        [1],
        "shop",
    )
    assert found.node == ("n" if state == "running" else None)
    assert found.at == NOW
    assert [one.id for one in client.list(state)] == [task_id]
    assert found.plain()["at"].endswith("Z")


def test_what_was_dropped_is_read_as_it_will_be_taken_in(
    root: Path, client: Spool, tmp_path: Path
) -> None:
    (tmp_path / "given").write_bytes(b"12345")
    task_id = client.submit(
        "a", [1], at="+2h", deadline="+3h", key="K", position="front", meta={"x": 1}, version=2,
        files={"one": tmp_path / "given"},
    )  # fmt: skip
    found = client.get(task_id)
    assert (found.state, found.task, found.args, found.attempt, found.why) == (
        "incoming",
        "a",
        [1],
        1,
        "",
    )
    assert found.submitted_at is not None
    assert found.at == found.submitted_at + 2 * HOUR
    assert found.deadline == found.submitted_at + 3 * HOUR
    assert (found.key, found.meta, found.version, found.files) == ("K", {"x": 1}, 2, {"one": 5})


def test_of_a_batch_that_was_dropped_each_says_what_it_waits_for(client: Spool) -> None:
    first, last = client.submit_many([{"task": "a", "priority": "high"}], then={"task": "b"})
    assert client.get(first).priority == "high"
    found = client.get(last)
    assert (found.task, found.after, found.on_failure) == ("b", (first,), "run")


def test_what_was_dropped_and_will_be_refused_is_shown_as_far_as_it_is_understood(
    root: Path, client: Spool
) -> None:
    for more in ({"at": "never"}, {"every": "1h", "nothing": 1}, {"every": "1h"}):
        task_id = new_id()
        doc = {"id": task_id, "task": "a", "args": [1], "key": "k", "meta": {"m": 1}, **more}
        for action in (doc, {"tasks": [doc, {"task": "b"}]}):
            (root / "incoming" / f"{task_id}.json").write_text(json.dumps(action))
            found = client.get(task_id)
            assert (found.state, found.task, found.args) == ("incoming", "a", [1])
            assert (found.key, found.meta) == ("k", {"m": 1})
            is_schedule = action is doc and more == {"every": "1h"}
            assert found.why.startswith("will be refused: ") != is_schedule
    odd = {"tasks": [{"id": task_id, "action": "resume"}, {"task": "b"}]}
    (root / "incoming" / f"{task_id}.json").write_text(json.dumps(odd))
    assert client.get(task_id).why.startswith("will be refused: ")
    deep = f'{{"id": "{task_id}", "task": "a", "meta": {{"m": {"[" * 900}{"]" * 900}}}, "key": "k"}}'
    (root / "incoming" / f"{task_id}.json").write_text(deep)
    found = client.get(task_id)
    assert (found.task, found.why[:16]) == ("a", "will be refused:")


def test_a_view_has_all_attempts_and_the_newest_result(root: Path, client: Spool) -> None:
    task_id = new_id()
    path = take_in(root, task_id, state="done", fails=1)
    put_record(root, task_id, "x", event="retrying", will_retry=True, error={"message": "no"})
    put_record(root, task_id, path, attempt=2, result={"n": 1})
    found = client.get(task_id)
    assert [r["attempt"] for r in found.attempts] == [1, 2]
    assert found.result == {"n": 1}
    assert found.error is None


def test_a_view_cannot_be_changed(root: Path, client: Spool) -> None:
    task_id = new_id()
    take_in(root, task_id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        client.get(task_id).state = "done"  # type: ignore[misc]


def test_a_list_is_by_names_alone(root: Path, client: Spool) -> None:
    for number in range(5):
        path = take_in(root, new_id(), task=f"t{number % 2}.x")
        (root / path).write_bytes(b"damaged")
    assert len(list(client.list())) == 5
    assert len(list(client.list("pending", "t1.*"))) == 2
    assert len(list(client.list(limit=3))) == 3
    assert list(client.list("done")) == []
    with pytest.raises(Invalid, match="pending"):
        client.list("pendin")


# Waiting.


def test_a_task_that_has_ended_is_not_waited_for(root: Path, client: Spool) -> None:
    task_id = new_id()
    put_record(root, task_id, take_in(root, task_id, state="failed"), event="failed")
    assert client.wait(task_id, 0)["event"] == "failed"


def test_the_end_is_noticed_when_its_entry_follows_its_record(root: Path, client: Spool) -> None:
    task_id = client.submit("a")
    found: list[dict[str, Any]] = []
    waiter = threading.Thread(target=lambda: found.append(client.wait(task_id, 20)))
    waiter.start()
    path = take_in(root, task_id)
    (root / "incoming" / f"{task_id}.json").unlink()
    target = layout.ended("done", NOW, Entry(time=NOW, id=task_id, task="a"))
    put_record(root, task_id, target)
    (root / target).parent.mkdir()
    (root / path).rename(root / target)
    waiter.join(20)
    assert found[0]["event"] == "done"


@pytest.mark.parametrize(
    "record",
    [
        {"will_retry": True, "entry": "pending/x"},
        {"entry": "held/x", "event": "recurring-error"},
        {"entry": "failed/2026-01-01/gone-since-it-was-retried"},
    ],
)
def test_a_record_that_is_not_the_end_ends_no_wait(
    root: Path, client: Spool, record: dict[str, Any]
) -> None:
    task_id = new_id()
    take_in(root, task_id)
    (root / "held" / "x").touch()
    put_record(root, task_id, **{"event": "retrying", **record})
    with pytest.raises(TimedOut):
        client.wait(task_id, 0.05)


@pytest.mark.parametrize("signed", [False, True])
def test_waiting_for_what_was_refused_says_why(root: Path, client: Spool, *, signed: bool) -> None:
    first, second = client.submit_many([{"task": "a"}, {"task": "b"}])
    (name,) = os.listdir(root / "incoming")
    if signed:
        text = (root / "incoming" / name).read_text()
        (root / "incoming" / name).write_text(json.dumps({"signed": text, "signature": "?"}))
    assert client.get(second).state == "incoming"
    from spool.names import date_of, id_time

    place = root / "rejected" / date_of(id_time(first))
    found: list[Exception] = []

    def wait() -> None:
        try:
            client.wait(second, 20)
        except Refused as problem:
            found.append(problem)

    waiter = threading.Thread(target=wait)
    waiter.start()
    place.mkdir()
    (place / f"{name}.reason.json").write_text(json.dumps({"text": "tasks[0].task `a`: is not liked"}))
    (root / "incoming" / name).rename(place / name)
    waiter.join(20)
    assert "is not liked" in str(found[0])


# The outbox.


def test_events_come_oldest_first_and_are_deleted_when_the_next_is_asked_for(
    root: Path, client: Spool
) -> None:
    names = [put_event(root, "shop", NOW + n) for n in (2, 0, 1)]
    seen = []
    for event in client.outbox("shop", follow=False):
        assert (root / "outbox" / "shop" / event.name).exists()
        seen.append(event.name)
    assert seen == sorted(names)
    assert os.listdir(root / "outbox" / "shop") == []


def test_an_event_whose_consumer_fails_stays(root: Path, client: Spool) -> None:
    names = sorted(put_event(root, "shop", NOW + n) for n in range(3))
    with pytest.raises(ZeroDivisionError):
        for event in client.outbox("shop", follow=False):
            if event.name == names[1]:
                raise ZeroDivisionError
    assert sorted(os.listdir(root / "outbox" / "shop")) == names[1:]


def test_an_event_may_be_acknowledged_at_once(root: Path, client: Spool) -> None:
    put_event(root, "shop", NOW)
    for event in client.outbox("shop", follow=False):
        client.acknowledge(event)
        client.acknowledge(event)
        break
    assert os.listdir(root / "outbox" / "shop") == []


def test_an_outbox_that_is_not_there_yet_is_waited_for(root: Path, client: Spool) -> None:
    timer = threading.Timer(0.05, put_event, [root, "shop", NOW])
    timer.start()
    event = next(client.outbox("shop", timeout=20))
    assert event.event == "done"
    timer.join()


def test_a_quiet_outbox_ends_the_loop_after_the_time_out(client: Spool) -> None:
    assert list(client.outbox("shop", timeout=0.02)) == []
    assert list(client.outbox(follow=False)) == []


def test_a_damaged_event_is_skipped_with_a_warning_and_kept(
    root: Path, client: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    names = [put_event(root, "shop", NOW + n) for n in range(3)]
    place = root / "outbox" / "shop"
    (place / names[0]).write_text("{")
    (place / names[1]).unlink()
    (place / names[1]).symlink_to("/etc/passwd")
    (place / "a stranger").touch()
    with caplog.at_level(logging.WARNING, "spool"):
        assert [e.name for e in client.outbox("shop", follow=False)] == [names[2]]
    assert names[0] in caplog.text
    assert names[1] in caplog.text
    assert sorted(os.listdir(place)) == sorted([*names[:2], "a stranger"])


def test_an_event_that_may_not_be_read_is_skipped_with_a_warning_until_it_may(
    root: Path, client: Spool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [put_event(root, "shop", NOW + n) for n in range(2)]
    file = root / "outbox" / "shop" / names[0]
    file.chmod(0)
    real = RealDisk.read

    def read(disk: RealDisk, path: str, limit: int) -> bytes:
        if not os.stat(path, dir_fd=disk.fd).st_mode & 0o777:  # root may
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(disk, path, limit)

    monkeypatch.setattr(RealDisk, "read", read)
    outbox = client.outbox("shop", timeout=30)
    assert next(outbox).name == names[1]
    assert f"{file}: skipped, it cannot be read" in caplog.text
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:  # a tick of the clock that files are dated by, up to 10 ms
        file.chmod(0o600)
    put_event(root, "shop", NOW + 2)
    assert next(outbox).name == names[0]
    outbox.close()


def test_a_damaged_event_is_given_out_once_it_is_mended(root: Path, client: Spool) -> None:
    name = put_event(root, "shop", NOW)
    file = root / "outbox" / "shop" / name
    whole = file.read_bytes()
    file.write_bytes(b"")
    outbox = client.outbox("shop", timeout=30)
    mender = threading.Timer(
        0.1, lambda: (file.with_name(".new").write_bytes(whole), os.replace(file.with_name(".new"), file))
    )
    mender.start()
    assert next(outbox).name == name
    outbox.close()
    mender.join()


def test_a_parent_that_is_no_name_is_refused(client: Spool) -> None:
    with pytest.raises(Invalid, match="parent"):
        next(client.outbox("../tmp"))


def test_an_event_has_what_its_record_has(root: Path, client: Spool) -> None:
    put_event(
        root,
        "shop",
        NOW,
        "retrying",
        will_retry=True,
        next_at="2026-11-21T14:30:00.000000Z",
        outcome="timeout",
    )
    event = next(client.outbox("shop", follow=False))
    assert (event.event, event.task, event.attempt, event.parent) == ("retrying", "a", 1, "shop")
    assert (event.will_retry, event.outcome, event.next_at) == (True, "timeout", 1_795_271_400_000_000)
    assert event.record["id"] == event.id


# Without inotify.


def test_without_inotify_everything_works_by_looking_again(
    root: Path, client: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchdog.observers.inotify_c", None)
    from spool.watch import Watch

    assert Watch([str(root)]).polls
    timer = threading.Timer(0.02, put_event, [root, "shop", NOW])
    timer.start()
    assert next(client.outbox("shop", timeout=20)).event == "done"
    timer.join()


# Status and package.


def test_status_counts_by_state_and_class_and_knows_that_nobody_serves(root: Path, client: Spool) -> None:
    take_in(root, new_id(), prio="high")
    take_in(root, new_id(), state="held")
    put_event(root, "shop", NOW)
    client.submit("a")
    found = client.status()
    assert found["alive"] is False
    assert found["nodes"] == {}
    counts = {k: n for k, n in found["counts"].items() if n}
    assert counts == {"incoming": 1, "pending/high": 1, "held": 1}
    assert found["outboxes"] == {"shop": 1}
    json.dumps(found)


def test_a_daemon_is_alive_while_its_lock_is_held(root: Path, client: Spool) -> None:
    import fcntl

    with (root / "nodes" / "host.a.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        row = {"pid": 1, "state": "running", "written_at": format_utc(time.time_ns() // 1000)}
        (root / "nodes" / "host.a.json").write_text(json.dumps(row))
        assert client.status()["nodes"]["host.a"] == {**row, "node": "host.a", "alive": True}
        assert client.status()["alive"] is True
    assert client.status()["nodes"]["host.a"]["alive"] is False
    fd = os.open(root / "nodes" / "host.a.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody keeps it who only looked
    os.close(fd)


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    code = "import sys, spool; assert not [m for m in sys.modules if m.startswith('spool.')]; spool.Spool; spool.Invalid"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_submission_does_not_load_what_it_does_not_need(root: Path) -> None:
    code = (
        "import sys; from spool import Spool; Spool(sys.argv[1]).submit('a');"
        "print([m for m in ('watchdog', 'tomllib', 'spool.settings', 'spool.look', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_every_name_the_package_promises_is_there() -> None:
    for name in spool.__all__:
        assert getattr(spool, name) is not None
        assert name in dir(spool)
    with pytest.raises(AttributeError):
        _ = spool.Nonsense


def test_what_lies_in_a_box_of_its_writer_is_waited_for(root: Path) -> None:
    (root / layout.WRITERS / str(os.geteuid())).mkdir(parents=True)
    client = Spool(root)
    own = f"{layout.WRITERS}/{os.geteuid()}"
    client.box = Box(own, own)
    task_id = client.submit("run.a")
    stem = client.act({"action": "cancel", "ids": [task_id]})
    with pytest.raises(TimedOut):
        client.wait(task_id, timeout=0.01)
    with pytest.raises(TimedOut):
        client.carried_out(stem, timeout=0.01)
    assert client.get(task_id).state == layout.INCOMING
    (root / own / f"{stem}.json").unlink()
    client.carried_out(stem, timeout=0.01)


def test_a_task_of_a_batch_is_found_however_much_was_dropped_after_it(root: Path) -> None:
    client = Spool(root, durability="relaxed")
    first, _ = client.submit_many([{"task": "a"}, {"task": "b"}])
    for _ in range(1001):
        client.submit("c")
    assert client.get(first).task == "a"


def test_a_resend_that_fails_leaves_the_files_of_what_was_dropped_before(
    root: Path, client: Spool
) -> None:
    (root / "given").write_text("x")
    task_id = client.submit("a", id=new_id(), files={"f": root / "given"})

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(client.disk, "sync_dirs", interrupted)
        client.submit("a", id=task_id, files={"f": root / "given"})
    assert len(dropped(root)) == 1
    assert (root / layout.given(task_id, "f")).read_text() == "x"


def test_a_closed_spool_never_reaches_into_another_one(tmp_path: Path) -> None:
    init(str(tmp_path / "a"))
    init(str(tmp_path / "b"))
    closed = Spool(tmp_path / "a")
    closed.close()
    with Spool(tmp_path / "b") as other:  # its directory gets the number of the one that was closed
        with pytest.raises(OSError, match="Bad file descriptor"):
            closed.submit("t.a")
        closed.close()
        other.submit("t.b")
    assert len(list((tmp_path / "b" / "incoming").iterdir())) == 1


def test_a_spool_that_nobody_holds_any_more_is_closed(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Spool(root)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
