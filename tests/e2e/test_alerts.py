"""[alerts]: chosen events reach a program, seldom enough, and an alert never raises another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from spool.init import init
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Live]


def alerts(script: str, **more: Any) -> str:
    lines = {"exec": ["/bin/sh", "-c", script], **more}
    return "[alerts]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


TELL = "cat >> $NOTES/told"
HANDLERS = handler("bad.*", "echo no; exit 65") + handler("good", "true")


def told(spool: Live) -> list[dict[str, Any]]:
    path = spool.notes / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_event_that_was_chosen_reaches_the_program(live: Make) -> None:
    spool = live(alerts(TELL, events=["failed", "rejected"]) + HANDLERS)
    bad, good = spool.submit("bad.one"), spool.submit("good")
    spool.entry(bad, "failed")
    spool.entry(good, "done")
    until(lambda: len(told(spool)) == 1, "it is told")
    assert told(spool)[0]["event"] == spool.event("failed", bad)
    spool.taken(spool.drop({"task": "good", "prioritty": 1}))
    until(lambda: len(told(spool)) == 2, "a refusal too")
    assert {line["task"] for line in spool.journal("succeed")} == {"good", "spool.alert"}


def test_nobody_else_submits_an_alert_not_even_by_a_replay_elsewhere(live: Make, tmp_path: Path) -> None:
    spool = live(alerts(TELL, events=["failed"]) + HANDLERS)
    spool.taken(name := spool.drop({"task": "spool.alert", "args": {"event": {}}}))
    assert "spool's own tasks" in (spool.refusal_now(name) or {})["rule"]
    spool.entry(spool.submit("bad.one"), "failed")
    until(lambda: len(told(spool)) == 1, "our own one is told")
    alert = until(lambda: next((e for _, e in spool.entries("done")), None), "the alert is done")
    init(str(tmp_path / "other"))
    words = ["replay", alert.id, "--force", "--into", str(tmp_path / "other")]
    done = subprocess.run(
        [sys.executable, "-m", "spool", "--spool", str(spool.root), *words],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 65
    assert "spool.alert is spool's own task" in done.stderr
    assert not list((tmp_path / "other" / "incoming").iterdir())


def test_alerts_of_a_kind_are_held_back_and_counted(live: Make) -> None:
    spool = live(alerts(TELL, events=["failed"], every="2s", task="bad.*") + HANDLERS)
    for _ in range(5):
        spool.entry(spool.submit("bad.one"), "failed")
    spool.entry(spool.submit("bad.two"), "failed")

    def kinds() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for one in told(spool):
            found.setdefault(one["event"]["task"], []).append(one["held_back"])
        return found

    until(lambda: set(kinds()) == {"bad.one", "bad.two"}, "one of each kind")
    assert len(told(spool)) < 6

    def again() -> bool:
        spool.entry(spool.submit("bad.one"), "failed")
        return len(kinds()["bad.one"]) > 1

    until(again, "and later once more")
    assert sum(kinds()["bad.one"]) >= 1


def test_a_daemon_that_dies_and_comes_back_does_not_alert_again(live: Make) -> None:
    spool = live(alerts(TELL, events=["failed"], every="10m") + HANDLERS)
    spool.entry(spool.submit("bad.one"), "failed")
    until(lambda: len(told(spool)) == 1, "it is told")
    notes = spool.root / "nodes"  # the program may be as quick as what is noted of it
    until(
        lambda: any(b'"bad.one"' in p.read_bytes() for p in notes.glob("*.errors")), "and that is noted"
    )
    spool.kill9()
    spool.start()
    spool.entry(spool.submit("bad.one"), "failed")
    assert len([line for line in spool.journal("submit") if line["task"] == "spool.alert"]) == 1


def test_an_alert_that_fails_raises_no_alert(live: Make) -> None:
    events = ["failed", "retrying", "recurring-error"]
    spool = live('backoff = "1ms"\nretries = 1\n' + alerts("exit 1", events=events, every=0) + HANDLERS)
    spool.entry(spool.submit("bad.one"), "failed")
    until(lambda: len(list(spool.paths("failed"))) == 3, "the task, and what failed to tell of it")
    assert len([line for line in spool.journal("submit") if line["task"] == "spool.alert"]) == 2
