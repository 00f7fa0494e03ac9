"""What has ended long ago is in packs: still seen, known by its id, replayed, and gone in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from spool import Spool, packs
from spool.names import DAY_US, date_of, new_id
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

TOML = handler("echo", "cat > $SPOOL_RESULT; echo printed") + handler("bad", "echo no; exit 65")
OLD = "2026-01-01"


def command(spool: Live, *words: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "spool", "--spool", str(spool.root), *words],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout


def refused(spool: Live, *words: str, status: int = 65) -> str:
    """What a command says on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "spool", "--spool", str(spool.root), *words],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr.strip()


def aged(spool: Live) -> None:
    """All that has ended did so long ago, and the journal is of that day."""
    spool.stop()
    for state in ("done", "failed"):
        for folder in (spool.root / state).iterdir():
            folder.rename(folder.with_name(OLD))
    for path in (spool.root / "journal").glob("*/*.jsonl"):
        path.rename(path.with_name(f"{OLD}.jsonl"))


def test_a_packed_task_is_shown_known_and_replayed(live: Make) -> None:
    toml = 'keep_done = "3650d"\nkeep_failed = "3650d"\nkeep_journal = "3650d"\n' + TOML
    spool = live(toml)
    good, bad = spool.submit("echo", args={"n": 1}), spool.submit("bad")
    spool.entry(good, "done")
    spool.entry(bad, "failed")
    mark = spool.records(bad)[0]["error"]["fingerprint"]
    lines = [json.loads(line) for line in command(spool, "history", "--json").splitlines()]
    aged(spool)
    assert {
        json.loads(x)["what"] for x in command(spool, "prune", "--dry-run", "--json").splitlines()
    } == {"pack"}
    spool.start()
    with Spool(spool.root) as client:
        until(lambda: all(packs.known(client.disk, i) for i in (good, bad)), "both are packed")
        until(lambda: not list(spool.paths("done", "failed")), "and gone from where they stood")
        until(lambda: any(spool.root.glob(f"journal/*/{OLD}.jsonl.gz")), "the journal is packed")
        shown = json.loads(command(spool, "show", good, "--json"))
        assert (shown["state"], shown["args"], shown["result"]) == ("done", {"n": 1}, {"n": 1})
        assert shown["attempts"][0]["outcome"] == "ok"
        assert "moment" not in command(spool, "why", good)  # its record says when it ended
        assert command(spool, "wait", good) == '{"n":1}\n'
        for words in (["log"], ["log", "-f"]):
            assert command(spool, *words, good) == "printed\n"
        found = [json.loads(line) for line in command(spool, "history", "--json").splitlines()]
        assert [line for line in found if line in lines] == lines
        spool.do({"id": good, "task": "echo", "args": {"n": 1}})
        assert not list(spool.paths("pending", "running", "done"))
        name = spool.drop({"id": good, "task": "echo", "args": {"n": 2}})
        spool.taken(name)
        refusal = spool.refusal_now(name)
        assert refusal is not None
        assert refusal["field"] == "id"
        for verb in ("retry", "cancel"):
            rule = f"has ended and is packed; to run it once more: `spool replay {bad}`"
            assert refused(spool, verb, bad) == f"spool: refused: {bad}: {rule}"
        assert "`spool replay` finds it too" in refused(spool, "retry", "--error", mark, status=0)
        name = spool.drop({"action": "retry", "ids": [bad]})
        spool.taken(name)
        assert f"`spool replay {bad}`" in (spool.refusal_now(name) or {})["rule"]
        there, unknown = spool.submit("echo", at="+1h"), new_id()
        spool.entry(there, "pending")
        denied = spool.refusal(spool.drop({"action": "cancel", "ids": [bad, unknown, there]}))["rule"]
        spool.entry(there, "cancelled")
        assert denied.keys() == {bad, unknown}
        assert "is packed" in denied[bad]
        assert command(spool, "replay", "--error", mark, "--dry-run") == f"{bad}\n"
        spool.do({"action": "replay", "ids": [good], "id": new_id()})
        (again,) = [line for line in spool.journal("submit") if line.get("replay_of") == good]
        spool.entry(again["id"], "done")
        spool.do({"action": "replay", "match": {"error": mark}, "id": new_id()})
        (again,) = [line for line in spool.journal("submit") if line.get("replay_of") == bad]
        spool.entry(again["id"], "failed")
    assert (
        json.loads(command(spool, "history", "--event", "match", "--json").splitlines()[-1])["found"] == 1
    )


def test_what_nobody_keeps_goes_and_is_still_known(live: Make) -> None:
    spool = live(TOML + handler("brief", "true", keep="1d"))
    task_id = spool.submit("brief")
    spool.entry(task_id, "done")
    aged(spool)
    spool.start()
    until(lambda: not list(spool.paths("done")), "it is gone")
    spool.do({"id": task_id, "task": "brief"})
    assert not list(spool.paths("pending", "running", "done"))
    for verb in ("show", "why", "wait", "log"):
        assert f"{task_id} has ended, and nothing but its id is kept" in refused(
            spool, verb, task_id, status=66
        )
    assert "submit it anew" in refused(spool, "retry", task_id)


def test_a_damaged_pack_is_named(live: Make) -> None:
    spool = live('keep_done = "3650d"\n' + TOML)
    task_id = spool.submit("echo")
    spool.entry(task_id, "done")
    aged(spool)
    spool.start()
    until(lambda: not list(spool.paths("done")), "it is packed")
    (pack,) = spool.root.glob("packed/*/*.jsonl.gz")
    pack.write_bytes(b"damaged")
    for verb in ("show", "why", "wait", "log"):
        said = refused(spool, verb, task_id, status=66)
        assert f"{task_id} has ended, and its pack {pack.relative_to(spool.root)} is damaged" in said
        assert "`spool fsck`" in said


def test_a_handler_keeps_so_many_of_those_that_have_ended(live: Make) -> None:
    spool = live(TOML + handler("beat", "true", keep={"count": 2}))
    beats = spool.submit_all([{"task": "beat"} for _ in range(5)])
    other = spool.submit("echo")
    for task_id in (*beats, other):
        spool.entry(task_id, "done")
    command(spool, "prune", "--wait")
    assert command(spool, "prune", "--dry-run") == ""
    assert len(list(spool.paths("done"))) == 6, "the day is not over"
    spool.stop()
    (folder,) = (spool.root / "done").iterdir()
    yesterday = date_of(time.time_ns() // 1000 - DAY_US)
    folder.rename(folder.with_name(yesterday))
    (row,) = command(spool, "prune", "--dry-run", "--json").splitlines()
    assert json.loads(row) == {"what": "drop", "folder": f"done/{yesterday}", "files": 3}
    spool.start()
    until(lambda: len(list(spool.paths("done"))) == 3, "two beats and the other are left")
    assert spool.where(other) is not None


def test_a_pass_is_made_when_somebody_asks(live: Make) -> None:
    spool = live('pack_after = 0\nkeep_done = "3650d"\n' + TOML)
    task_id = spool.submit("echo")
    spool.entry(task_id, "done")
    (old,) = (spool.root / "done").iterdir()
    old.rename(old.with_name(OLD))  # under its feet: the next pass is ten minutes away
    command(spool, "prune", "--wait", "--why", "a test")
    until(lambda: any(spool.root.glob("packed/*/*.jsonl.gz")), "it is packed")
    assert spool.journal("prune")[0]["by"]["why"] == "a test"


def test_a_clock_that_is_ahead_removes_nothing_until_somebody_asks(live: Make) -> None:
    spool = live('keep_done = "1d"\n' + TOML)
    spool.entry(spool.submit("echo"), "done")
    aged(spool)
    path = spool.root / "nodes" / "here.json"
    known = f"{OLD}T12:00:00.000000Z"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"written_at": known}))
    for _ in range(2):  # a start within the hour knows no more
        spool.start()
        doubt = until(lambda: spool.status_now()["clock_doubted"], "the clock is doubted")
        assert doubt["known"].startswith(f"{OLD}T12:00:")
        assert "is ahead of" in command(spool, "status")
        spool.stop()
    assert spool.says().count("ahead of what was last known here; for an hour nothing is removed") == 2
    assert list(spool.paths("done"))
    spool.start()
    command(spool, "prune", "--wait")
    until(lambda: not list(spool.paths("done")), "it is removed")
    until(lambda: "asked to prune: by the clock as it is" in spool.says(), "and that is told")
