"""The short form of the proof, in a lab of two hosts and their file server."""

from __future__ import annotations

import io
import json

import pytest

from spool import layout
from spool.client import Spool
from spool.init import init
from tests.cluster import guest
from tests.cluster.hosts import hosts
from tests.cluster.kernels import NoLab
from tests.cluster.proof import Proof


@pytest.mark.timeout(400)
def test_a_host_without_power_loses_nothing_and_ends_nothing_twice() -> None:
    try:
        with hosts(2, "4.2", lease=4) as those:
            found = Proof(those, 5, 1, ("power",)).cut(tasks=40, cuts=1)
    except NoLab as why:
        pytest.skip(f"no lab of hosts: {why}")
    assert found["tasks"] == 40
    assert not found["wrong"], found


def test_a_promise_that_is_broken_is_found(tmp_path, monkeypatch, capsys) -> None:
    init(str(tmp_path / "q"))
    with Spool(str(tmp_path / "q")) as spool:
        kept, lost = spool.submit("a.b"), spool.submit("a.b")
    (gone,) = [path for path in (tmp_path / "q/incoming").iterdir() if lost in path.read_text()]
    gone.unlink()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{kept}\n{lost}\n"))
    guest.promises(str(tmp_path))
    assert json.loads(capsys.readouterr().out)["wrong"] == [f"{lost} was acknowledged and is gone"]


def test_an_event_that_is_not_true_is_found(tmp_path, monkeypatch, capsys) -> None:
    init(str(tmp_path / "q"))
    task = "01a2008cf8fa711c93a821af7569f071"
    event = {"id": task, "attempt": 1, "outcome": "ok", "node": "a"}
    for path, outcome in (
        (f"outbox/default/20261122T000000.000000Z,{task},a.b,done.json", "ok"),
        (layout.record(task, 1), "error"),
    ):
        (tmp_path / "q" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "q" / path).write_text(json.dumps({**event, "outcome": outcome}))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    guest.promises(str(tmp_path))
    assert len(json.loads(capsys.readouterr().out)["wrong"]) == 3
