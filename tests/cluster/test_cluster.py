"""The short form of the proof, in a lab of two hosts and their file server."""

from __future__ import annotations

import io
import json
import os

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
        with hosts(2, "4.2") as those:
            found = Proof(those, 5, 1, ("power",)).cut(tasks=40, cuts=1)
    except NoLab as why:
        pytest.skip(f"no lab of hosts: {why}")
    assert found["tasks"] == 40
    assert not found["wrong"], found


MAPS = """#!{python}
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
file = os.open("{dir}/mapped", os.O_RDWR | os.O_CREAT)
os.write(file, b"x")
open("/dev/shm/maps", "w").close()
while True:  # what was known of a file of NFS is asked for again every few seconds, by the mmap
    libc.munmap(ctypes.c_void_p(libc.mmap(None, 4096, 1, 1, file, 0)), 4096)
"""


@pytest.mark.timeout(200)
def test_a_handler_that_waits_for_the_file_server_in_an_mmap_is_killed_when_its_node_is_cut_off() -> None:
    try:
        with hosts(1, "3") as those:
            proof = Proof(those, 10, 1)
            proof.prepare()
            proof._put("a", "run", MAPS.format(dir=those.dir, python=those.python), "chmod 755")
            proof.serve()
            those.run("a", those.guest("plain", "1", "long.map"))
            proof._until(lambda: those.run("a", "ls /dev/shm/maps 2>&1; true")[:1] == "/", "it maps", 60)
            those.link("down", "a")
            proof._until(lambda: "handlers are killed" in those.said("a"), "it is killed", 20)
    except NoLab as why:
        pytest.skip(f"no lab of hosts: {why}")


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


@pytest.mark.parametrize(
    ("runs", "overlaps", "outran"),
    [(1, [], []), (12, ["a {}.1 by 1.00 s, lost: True"], ["a {}.1 2.00 s after the end"])],
)
def test_a_run_that_goes_on_is_told_from_a_file_of_it_that_comes_late(
    tmp_path, monkeypatch, capsys, runs, overlaps, outran
) -> None:
    init(str(tmp_path / "q"))
    task = "01a2008cf8fa711c93a821af7569f071"
    (tmp_path / "w").mkdir()
    for path, at in (
        (f"q/{layout.record(task, 1)}", 10),
        (f"q/{layout.record(task, 2)}", 20),
        (f"w/{task}.1.a.b", 0),
        (f"w/{task}.1.a.e", 17),
        (f"w/{task}.2.b.b", 11),
        (f"w/{task}.2.b.e", 15),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps({"id": task, "outcome": "lost"}))
        os.utime(tmp_path / path, (1e9 + at, 1e9 + at))
    for run, times in ((f"{task}.1.a", (0, runs)), (f"{task}.2.b", (11, 15))):
        (tmp_path / f"ran.{run[-1]}").write_text("".join(f"{1e9 + at} {run}\n" for at in times))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    guest.look_at(str(tmp_path))
    found = json.loads(capsys.readouterr().out)
    assert found["late"] == [f"a {task}.1 e 7.00 s after the end"]
    assert (found["overlaps"], found["outran"]) == (
        [one.format(task) for one in overlaps],
        [one.format(task) for one in outran],
    )
