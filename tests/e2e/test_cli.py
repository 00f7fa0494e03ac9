"""The command and the client with a live daemon: what a person types, and what comes of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spool import NoSuchTask, Refused, Spool, TimedOut, layout
from spool.command import edit
from spool.disk import RealDisk
from spool.names import new_id
from spool.worker.kept import Kept
from tests.e2e.live import PATIENCE, ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Make = Callable[..., Live]

HANDLERS = (
    handler("echo", "cat > $SPOOL_RESULT; echo printed")
    + handler("bad", "echo oops; exit 65")
    + handler(
        "block", 'echo $$ > $NOTES/pid; echo started; read x < $NOTES/gate; echo "$x"', concurrency=1
    )
    + handler("twice", "test $SPOOL_ATTEMPT = 2", backoff="1ms")
    + handler("shop", notify="shop")
)
ID = re.compile(r"[0-9a-f]{32}\n")


class Shell:
    """`spool ...` on a live spool."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.env = {**os.environ, "SPOOL_DIR": str(live.root), "PYTHONPATH": str(ROOT)}
        self.env["TMPDIR"] = str(live.place)  # an edit that fails leaves its text there

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """A command that runs beside the test."""
        command = [sys.executable, "-m", "spool", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **more
        )

    def __call__(self, *words: str, stdin: str = "", status: int = 0) -> str:
        """Run a command to its end, check its status, return what it printed."""
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=PATIENCE)
        assert process.returncode == status, f"{words}: {process.returncode}, {out} {err}"
        self.err = err
        return out

    def id(self, *words: str) -> str:
        """Run a command that prints an id and nothing else."""
        out = self(*words)
        assert ID.fullmatch(out), out
        return out.strip()


@pytest.fixture
def shell(live: Make) -> Shell:
    spool = live(HANDLERS)
    os.mkfifo(spool.notes / "gate")
    return Shell(spool)


def test_a_task_is_submitted_and_waited_for(shell: Shell) -> None:
    task_id = shell.id("submit", "echo", "n=1", "to=Zoë")
    assert json.loads(shell("wait", task_id)) == {"n": 1, "to": "Zoë"}
    record = json.loads(shell("wait", task_id, "--json"))
    assert (record["event"], record["attempt"], record["id"]) == ("done", 1, task_id)


def test_wait_exits_1_for_failed_2_for_cancelled_75_for_time_out(shell: Shell) -> None:
    failed = shell.id("submit", "bad")
    assert shell("wait", failed, status=1) == ""
    assert "oops" in shell.err
    later = shell.id("submit", "echo", "--at", "+1h")
    shell("wait", later, "--timeout", "50ms", status=75)
    shell("cancel", later)
    shell("wait", later, status=2)
    shell("wait", failed, later, status=1)
    shell("wait", new_id(), status=66)


def test_who_waits_is_told_when_it_ends_and_not_before(shell: Shell) -> None:
    task_id = shell.id("submit", "block")
    waiter = shell.start("wait", task_id)
    shell.live.note("pid")
    assert waiter.poll() is None
    (shell.live.notes / "gate").write_text("go\n")
    assert waiter.communicate(timeout=PATIENCE) == ("null\n", "")
    assert waiter.returncode == 0


def test_a_refusal_is_seen_at_once(shell: Shell) -> None:
    task_id = shell.id("submit", "echo")
    shell("wait", task_id)
    shell("cancel", task_id, status=65)
    assert "done takes no cancel" in shell.err
    shell("hold", new_id(), "--wait", status=65)
    assert "no task has this id" in shell.err
    shell("submit", "--file", "-", stdin=json.dumps({"action": "cancel", "ids": [task_id]}), status=65)
    assert "done takes no cancel" in shell.err
    why = "a task that is done takes no cancel"
    ids = [task_id, shell.id("submit", "echo")]
    shell("wait", ids[1])
    for some in (ids[:1], ids):
        told = json.loads(shell("cancel", *some, "--json", status=65))
        assert told["asked"] == len(some)
        assert told["refused"] == [{"id": one, "why": why, "tasks": 1} for one in some]
    shell("cancel", *ids, status=65)
    assert shell.err == "".join(f"spool: refused: {one}: {why}\n" for one in ids)


def test_why_and_status_say_what_runs_and_what_holds_the_rest(shell: Shell) -> None:
    first = shell.id("submit", "block", "--priority", "high")
    shell.live.note("pid")
    second, third = shell.id("submit", "block"), shell.id("submit", "block")
    later = shell.id("submit", "echo", "--at", "+2h")
    nobody = shell.id("submit", "nobody")
    shell.live.wait_count(3, "pending")
    shell.live.wait_count(1, "held")
    shell.live.status(lambda s: s["held_back"] and s["held_back"][0]["ready"] == 2, "two are held back")
    assert re.match(r"running on node here for .* \(attempt 1\)", shell("why", first))
    assert "handler block runs 1 already (concurrency)" in shell("why", second)
    assert "behind 1 medium" in shell("why", third)
    assert "not before" in shell("why", later)
    assert "no handler for `nobody`" in shell("why", nobody)
    status = shell("status")
    assert "node here: alive, running" in status
    assert "3 (3 medium)" in status
    assert "held back  2 medium: handler block runs 1 already" in status
    assert first in status
    rows = [json.loads(line) for line in shell("ls", "--json").splitlines()]
    assert [(r["id"], r["state"]) for r in rows] == [
        (first, "running"),
        (second, "pending"),
        (third, "pending"),
        (later, "pending"),
        (nobody, "held"),
    ]


def test_a_pause_holds_until_it_is_taken_back(shell: Shell) -> None:
    shell("pause", "--task", "ec*", "--why", "relay is down")
    task_id = shell.id("submit", "echo")
    shell.live.entry(task_id, "pending")
    assert "relay is down" in shell("why", task_id)
    assert "relay is down" in shell("status")
    shell("wait", task_id, "--timeout", "50ms", status=75)
    shell("resume", "--task", "ec*")
    shell("wait", task_id)


def test_tasks_are_held_released_moved_and_retried(shell: Shell) -> None:
    task_id = shell.id("submit", "echo", "--at", "+1h")
    shell.live.entry(task_id, "pending")
    shell("hold", task_id)
    assert "somebody asked" in shell("why", task_id)
    shell("move", task_id, "--priority", "low", "--at", "+1s", "--front")
    shell("release", "-", stdin=task_id)
    shell("wait", task_id)
    assert json.loads(shell("show", task_id, "--json"))["priority"] == "low"
    failed = shell.id("submit", "bad")
    shell("wait", failed, status=1)
    assert shell("ls", "failed", "--ids").split() == [failed]
    shell("retry", failed)
    record = until(
        lambda: next((r for r in shell.live.records(failed) if r["attempt"] == 2), None), "it ran again"
    )
    assert record["event"] == "failed"


def test_show_tells_the_whole_story(shell: Shell) -> None:
    task_id = shell.id("submit", "twice", "--meta", "k=v")
    shell("wait", task_id)
    shown = json.loads(shell("show", task_id, "--json"))
    assert shown["state"] == "done"
    assert [r["outcome"] for r in shown["attempts"]] == ["error", "ok"]
    events = [line["event"] for line in shown["journal"]]
    assert [e for e in events if e in ("submit", "fail", "succeed")] == ["submit", "fail", "succeed"]
    assert shown["meta"] == {"k": "v"}
    text = shell("show", task_id)
    assert "JOURNAL" in text
    assert "ATTEMPT" in text


def test_a_log_is_followed_to_its_end(shell: Shell) -> None:
    task_id = shell.id("submit", "block")
    reader = shell.start("log", "-f", task_id)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "started\n"
    (shell.live.notes / "gate").write_text("the end\n")
    assert reader.communicate(timeout=PATIENCE)[0] == "the end\n"
    assert shell("log", task_id) == "started\nthe end\n"
    assert shell("log", "-f", "-n", "5", task_id, status=66) == ""
    assert f"attempt 5 of {task_id} has no log" in shell.err


def test_a_command_is_run_here_and_its_end_is_ours(shell: Shell) -> None:
    assert shell("run", "--wait", "--", "sh", "-c", "echo $PWD; exit 7", status=7) == f"{Path.cwd()}\n"
    shell("run", "--wait", "--", "sh", "-c", "kill -TERM $$", status=143)
    assert shell("run", "--wait", "--env", "A=1", "--", "sh", "-c", "echo $A") == "1\n"
    assert shell("run", "--wait", "--", "/no/such/program", status=1) == ""
    told = json.loads(shell("run", "--wait", "--json", "--", "sh", "-c", "echo here; exit 7", status=7))
    assert (told["exit"], shell("log", told["id"])) == (7, "here\n")
    task_id = shell.id("run", "--", "true")
    shell("wait", task_id)


def test_a_command_that_was_ended_from_outside_says_so_whatever_its_exit_status(shell: Shell) -> None:
    shell("run", "--wait", "--timeout", "10ms", "--retries", "1", "--", "sleep", "99", status=75)
    assert " failed with attempt 2: took longer than 10 ms\n" in shell.err
    polite = "trap 'exit 0' TERM; sleep 99 & wait"
    shell("run", "--wait", "--timeout", "500ms", "--", "sh", "-c", polite, status=75)
    runs = shell.start("run", "--wait", "--", "sh", "-c", "echo here; sleep 99")
    assert runs.stdout is not None
    assert runs.stdout.readline() == "here\n"
    (task_id,) = shell("ls", "running", "--ids").split()
    shell("cancel", task_id)
    assert runs.communicate(timeout=PATIENCE)[1] == f"spool: {task_id} cancelled\n"
    assert runs.returncode == 2


def test_who_no_longer_waits_for_a_command_is_told_that_it_goes_on(shell: Shell) -> None:
    runs = shell.start("run", "--wait", "--", "sh", "-c", "echo here; sleep 99")
    assert runs.stdout is not None
    assert runs.stdout.readline() == "here\n"
    runs.send_signal(signal.SIGINT)
    said = runs.communicate(timeout=PATIENCE)[1]
    assert runs.returncode == 130
    task_id = said.split()[1]
    assert said == f"spool: {task_id} goes on; `spool cancel {task_id}` ends it\n"
    shell("cancel", task_id)


def test_events_are_watched_as_they_come(shell: Shell) -> None:
    watcher = shell.start("watch", "--json")
    assert watcher.stdout is not None
    task_id = shell.id("submit", "echo")
    assert json.loads(watcher.stdout.readline())["id"] == task_id
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 130
    assert len(shell.live.events()) == 1


def test_a_shell_script_can_be_a_parent(shell: Shell) -> None:
    script = shell.live.place / "work"
    script.write_text(
        "#!/bin/sh\ntest $SPOOL_EVENT = ready || exit 0\n"
        'echo \'{"action": "ack", "id": "\'$SPOOL_ID\'", "attempt": \'$SPOOL_ATTEMPT\', "result": "made"}\' |'
        f" {sys.executable} -m spool submit --file - > /dev/null\n"
    )
    script.chmod(0o700)
    worker = shell.start("watch", "shop", "--exec", str(script))
    task_id = shell.id("submit", "shop")
    assert shell("wait", task_id) == '"made"\n'
    until(lambda: not shell.live.events("shop"), "all events are acknowledged")
    worker.terminate()
    worker.communicate(timeout=PATIENCE)


def test_fsck_leaves_a_live_spool_alone_and_finds_a_stopped_one_well(shell: Shell) -> None:
    shell("wait", shell.id("submit", "echo"))
    shell("fsck", status=75)
    assert "alive" in shell.err
    shell("doctor")
    shell.live.stop()
    assert shell("fsck") == ""
    assert "no spoold serves" in shell("status")


# The client.


def test_the_client_is_a_parent_that_does_the_work(shell: Shell) -> None:
    spool = Spool(shell.live.root)
    task_id = spool.submit("shop", {"n": 1}, timeout="1h")
    told = spool.outbox("shop", timeout=PATIENCE)
    ready = next(told)
    assert (ready.event, ready.id, ready.attempt, ready.args) == ("ready", task_id, 1, {"n": 1})
    assert ready.attempt is not None
    spool.carried_out(spool.progress(ready.id, ready.attempt, 50, "half"), PATIENCE)
    spool.carried_out(spool.extend(ready.id, ready.attempt, "2h"), PATIENCE)
    spool.carried_out(spool.fail(ready.id, ready.attempt, ValueError("not now"), delay="10ms"), PATIENCE)
    with pytest.raises(Refused, match="stale"):
        spool.carried_out(spool.ack(ready.id, ready.attempt, "late"), PATIENCE)
    seen = []
    while (again := next(told)).event != "ready":
        seen.append(again.event)
    assert set(seen) - {"rejected"} == {"progress", "retrying", "recurring-error"}
    assert again.attempt == 2
    spool.ack(task_id, 2, {"ok": True})
    assert spool.wait(task_id, PATIENCE)["result"] == {"ok": True}
    assert [r["outcome"] for r in spool.get(task_id).attempts] == ["error", "ok"]


def test_a_submission_that_was_refused_is_known_to_who_waits(shell: Shell) -> None:
    spool = Spool(shell.live.root)
    shell.live.drop({"task": "echo", "id": (task_id := new_id()), "retries": -1}, f"{task_id}.json")
    shell.live.taken(f"{task_id}.json")
    with pytest.raises(Refused, match="retries"):
        spool.wait(task_id, PATIENCE)
    shell("wait", task_id, status=65)
    assert "refused" in shell("why", task_id)
    shell("show", task_id, status=65)
    shell("log", task_id, status=65)
    with pytest.raises(NoSuchTask):
        spool.wait(new_id(), PATIENCE)
    shell.live.drop({"task": "echo", "retries": -1}, "nameless.json")
    shell.live.taken("nameless.json")
    told = shell.live.refusal("nameless.json")
    shell("show", told["id"], status=65)
    assert told["text"] in shell.err
    assert "nameless.json.reason.json" in shell.err


def test_a_batch_is_waited_for_one_by_one(shell: Shell) -> None:
    spool = Spool(shell.live.root)
    ids = spool.submit_many({"task": "echo", "args": n} for n in range(20))
    assert [spool.wait(task_id, PATIENCE)["result"] for task_id in ids] == list(range(20))
    assert {one.id for one in spool.list("done")} == set(ids)


def test_waiting_survives_a_restart_of_the_daemon(shell: Shell) -> None:
    spool = Spool(shell.live.root)
    shell.live.stop()
    task_id = spool.submit("echo", "x")
    with pytest.raises(TimedOut):
        spool.wait(task_id, 0.05)
    assert spool.status()["alive"] is False
    shell.live.start()
    assert spool.wait(task_id, PATIENCE)["result"] == "x"
    assert spool.status()["alive"] is True


def test_an_edited_task_takes_the_place_of_the_old_one(shell: Shell, tmp_path: Path) -> None:
    old = shell.id("submit", "echo", "to=zoe", "--at", "+1h", "--priority", "high", "--front")
    time = shell.live.entry(old, "pending").time
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/zoe/ann/ "$1"\n')
    editor.chmod(0o755)
    shell.env["EDITOR"] = str(editor)
    kept = shell.live.root / layout.checkpoint(old)
    kept.parent.mkdir(parents=True)
    kept.write_text('{"page": 7}')
    new = shell.id("edit", old)
    assert new != old
    assert (shell.live.root / layout.checkpoint(new)).read_text() == '{"page": 7}'
    entry = shell.live.entry(new, "pending")
    assert (entry.time, entry.prio, entry.front) == (time, "high", True)
    assert json.loads(shell("show", new, "--json"))["args"] == {"to": "ann"}
    assert shell.live.entry(old, "cancelled")
    shell("edit", new, status=0)  # nothing to change: no zoe there
    assert "nothing has changed" in shell.err
    editor.write_text('#!/bin/sh\nsed -i s/args/argh/ "$1"\n')
    shell("edit", new, status=65)
    assert "argh" in shell.err
    assert "did you mean 'args'" in shell.err
    assert shell.live.entry(new, "pending")
    editor.write_text(f'#!/bin/sh\nsed -i s/ann/eve/ "$1"; {sys.executable} -m spool cancel {new}\n')
    shell("edit", new, status=65)
    assert "nothing was changed" in shell.err


def test_a_checkpoint_that_goes_along_is_on_disk_under_its_new_name(shell: Shell) -> None:
    class Noted(RealDisk):
        def sync_dirs(self, paths: Iterable[str]) -> None:
            synced.extend(paths)
            super().sync_dirs(paths)

    synced: list[str] = []
    client = Spool(shell.live.root)
    client.disk = Noted(client.path)
    old, new = new_id(), new_id()
    Kept(client.path).write(old, 7)
    edit._carry_over(client, old, new)
    assert client.checkpoint(new) == 7
    assert synced == [layout.parent_of(layout.checkpoint(new))]


def test_an_edit_that_cannot_take_the_place_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    shell.env["EDITOR"] = str(editor)

    def edit(task_id: str, change: str, status: int) -> str:
        editor.write_text(f"#!/bin/sh\nsed -i '{change}' \"$1\"\n")
        editor.chmod(0o755)
        out = shell("edit", task_id, status=status)
        assert shell.live.entry(out.strip() or task_id, "pending")
        return out.strip()

    other = shell.id("submit", "echo", "--at", "+1h", "--key", "b")
    old = shell.id("submit", "echo", "to=zoe", "--at", "+1h", "--key", "a", "--key-for", "1h")
    new = edit(old, "s/zoe/ann/", 0)  # its key goes with it
    assert shell.live.entry(old, "cancelled")
    edit(new, 's/"a"/"b"/', 65)
    assert f"its key is that of {other}; nothing was changed" in shell.err
    text = Path(shell.err.partition("the text is in ")[2].splitlines()[0])
    assert json.loads(text.read_text())["key"] == "b"
    for more in ('"every": "1h"', '"action": "cancel"'):
        edit(new, f's/"meta": {{}}/{more}/', 65)
        assert "must not stand in a task that is edited" in shell.err
    edit(new, 's/"meta": {}/"after": ["' + new_id() + '"]/', 65)
    assert "no task has this id; nothing was changed" in shell.err
    (tmp_path / "photo").write_text("cat")
    brings = shell.id("submit", "echo", "to=zoe", "--at", "+1h", "--attach", f"photo={tmp_path}/photo")
    brings = edit(brings, "s/zoe/ann/", 0)
    (kept,) = shell.live.root.glob(f"files/*/{brings}/photo")
    assert kept.read_text() == "cat"
    edit(brings, "s/photo/other/", 65)
    assert "other" in shell.err
    never = shell.id("submit", "echo", "--at", "+1h")
    waits = shell.id(
        *("submit", "echo", "to=zoe", "--at", "+1h", "--after", never, "--on-failure", "cancel")
    )
    shell.live.entry(waits, "held")
    shell("release", waits, "--wait")
    shell("cancel", never, "--wait")
    edit(edit(waits, "s/zoe/ann/", 0), "s/ann/eve/", 0)  # released, it waits for nothing
    then = shell.id("submit", "echo", "--after", new)
    edit(new, "s/ann/eve/", 65)
    assert f"{then} waits for it" in shell.err
    for wrong in ("/no/such/editor", "vi 'x"):
        shell.env["EDITOR"] = wrong
        shell("edit", brings, status=65)
        assert wrong in shell.err
        assert "the text is in" not in shell.err


def test_filters_name_tasks_and_nothing_is_done_to_all_unless_it_is_said(shell: Shell) -> None:
    ids = [shell.id("submit", name, "--at", "+1h") for name in ("echo", "echo", "bad")]
    for task_id in ids:
        shell.live.entry(task_id, "pending")
    shell("cancel", status=64)
    assert "--all" in shell.err
    shell("cancel", ids[0], "--task", "echo", status=64)
    assert set(shell("cancel", "--task", "echo", "--dry-run").split()) == set(ids[:2])
    assert "asked for 2 tasks" in shell("cancel", "--task", "echo", "--wait")
    for task_id in ids[:2]:
        assert shell.live.entry(task_id, "cancelled")
    assert "asked for 0 tasks" in shell("cancel", "--task", "echo", "--wait")
    assert "asked for 1 task" in shell("hold", "--all", "--wait")
    assert shell.live.entry(ids[2], "held")
    assert "asked for 0 tasks" in shell("release", "--until", "1h", "--wait")
    assert "asked for 1 task" in shell("release", "--since", "1h", "--wait")
    shell("retry", "--error", "abc", status=65)
    assert "no error group" in shell.err


def test_what_a_verb_by_filter_could_not_do_is_told_and_what_became_a_duplicate(shell: Shell) -> None:
    failed = shell.id("submit", "bad", "--key", "k")
    shell("wait", failed, status=1)
    other = shell.id("submit", "echo", "--key", "k", "--at", "+1h")
    shell("retry", "--task", "bad", "--wait", status=65)
    assert f"refused: its key k is taken by {other}" in shell.err
    assert "asked for 1 task" in shell("replay", "--task", "bad", "--wait")
    assert "its key is taken: a duplicate, which does not run" in shell.err
    told = json.loads(shell("replay", failed, "--wait", "--json"))
    assert (told["refused"], told["duplicates"]) == ([], 1)
    told = json.loads(
        shell("retry", "--task", "bad", "--state", "cancelled", "--json", "--wait", status=65)
    )
    (refused,) = told["refused"]
    assert (refused["id"], refused["tasks"]) == (None, 2)
    shell("hold", "--task", "echo", "--wait")
    assert shell.err == ""


def test_the_past_is_replayed_here_and_in_another_spool(shell: Shell, tmp_path: Path) -> None:
    ids = [shell.id("submit", "echo", f"n={n}") for n in range(3)]
    for task_id in ids:
        shell.live.entry(task_id, "done")
    assert set(shell("replay", "--task", "echo", "--dry-run").split()) == set(ids)
    shell("replay", "--task", "echo", status=64)
    assert "--yes" in shell.err
    said = json.loads(shell("replay", *ids[:2], "--yes", "--wait", "--json"))
    assert said["asked"] == 2
    assert f"spool: replay {said['id']}\n" in shell.err
    until(lambda: len(list(shell.live.paths("done"))) == 5, "two ran again")
    shell("replay", *ids[:2], "--yes", "--wait", "--id", said["id"])
    assert len(list(shell.live.entries())) == 5
    other = str(tmp_path / "scratch")
    shell("init", other)
    made = json.loads(shell("replay", *ids, "--yes", "--into", other, "--json"))
    again = json.loads(shell("replay", *ids, "--yes", "--into", other, "--json", "--id", made["id"]))
    assert made["ids"] == again["ids"]
    assert len(set(made["ids"])) == 3
    with Spool(other) as scratch:
        found = [scratch.get(task_id) for task_id in made["ids"]]
        assert [one.args for one in found] == [{"n": n} for n in range(3)]


def test_what_came_with_a_task_comes_with_its_replay_in_another_spool(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "photo").write_text("cat")
    ids = [shell.id("submit", "echo", "--attach", f"photo={tmp_path}/photo"), shell.id("submit", "echo")]
    for task_id in ids:
        shell.live.entry(task_id, "done")
    other = tmp_path / "scratch"
    shell("init", str(other))
    (other / "spool.toml").write_text(
        '[handlers.echo]\nexec = ["sh", "-c", "cat $SPOOL_FILES/photo || true"]\n'
    )
    said = ("replay", *ids, "--yes", "--into", str(other), "--json")
    made = json.loads(shell(*said))
    shell(*said, "--id", made["id"])
    serve = [sys.executable, "-m", "spoold", "--spool", str(other), "--until-idle", "-q"]
    subprocess.run(serve, check=True)
    with Spool(other) as scratch:
        assert [scratch.get(task_id).state for task_id in made["ids"]] == ["done", "done"]
    assert shell("log", made["ids"][0], "--spool", str(other)) == "cat"
    assert not os.listdir(other / "tmp")


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_what_is_done_and_cannot_be_printed_is_said_to_be_done(tmp_path, json):
    spool = [sys.executable, "-m", "spool"]
    subprocess.run([*spool, "init", tmp_path / "s"], check=True, timeout=30)
    for words, said in (
        (["submit", "a.b"], "spool: submitted "),
        (["pause"], "pause: asked for the whole spool"),
    ):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*spool, "--spool", tmp_path / "s", *words, *json], stdout=full,
                                  stderr=subprocess.PIPE, text=True, check=False, timeout=30)  # fmt: skip
        assert said in done.stderr
        assert done.stderr.rstrip().endswith("but it could not be printed: No space left on device")
        assert (done.returncode, len(done.stderr.splitlines())) == (74, 1)
    assert len(list((tmp_path / "s/incoming").iterdir())) == 2
