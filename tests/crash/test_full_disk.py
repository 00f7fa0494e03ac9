"""A file system that really fills: intake stops and says so, nothing is lost, it goes on by itself."""

import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.live import Live, handler, until
from tests.e2e.manager import Manager

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="mounting a small tmpfs needs root"),
]


@pytest.fixture
def small(tmp_path):
    """A live spool on a tmpfs of its own, with these mount options and settings."""
    made = []

    def make(options, toml):
        place = tmp_path / "small"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no tmpfs may be mounted here: {done.stderr!r}")
        live = Live(place, toml)
        made.append((live, place))
        return live

    yield make
    for live, place in made:
        live.close()
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(path, leave):
    """Take all the room but `leave` bytes."""
    free = os.statvfs(path.parent)
    with open(path, "wb", buffering=0) as file:  # spoold may have taken some meanwhile: less is written
        file.write(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))


def test_a_full_disk_stops_the_intake_and_room_starts_it_again(small):
    live = small("size=4m", 'min_free_bytes = "256KiB"\n' + handler("ok.*", "true"))
    live.start()
    assert live.end(live.submit("ok.before"))["event"] == "done"
    ballast = live.place / "ballast"
    fill(ballast, 128 << 10)
    ids = [live.submit("ok.during") for _ in range(5)]
    live.status(lambda s: "disk full" in s["state"], "status says that the disk is full")
    assert len(list((live.root / "incoming").iterdir())) == 5
    why = [sys.executable, "-m", "spool", "--spool", str(live.root), "why", ids[0]]
    assert subprocess.check_output(why, text=True).startswith("disk full: ")
    ballast.unlink()
    for task_id in ids:
        assert live.end(task_id)["event"] == "done"
    live.status(lambda s: s["state"] == "running", "status says that it goes on")


@pytest.mark.parametrize(("kind", "state"), [("hold", "held"), ("cancel", "cancelled")])
def test_what_was_asked_of_all_that_match_comes_before_any_start_when_there_is_room(small, kind, state):
    toml = 'min_free_bytes = "8MiB"\nconcurrency = 2\n' + handler("ok.*", "true")
    live = small("size=32m", toml)
    live.start()
    live.do({"action": "pause"})
    ids = [live.submit("ok.before") for _ in range(3)]
    live.wait_count(len(ids), "pending")
    ballast = live.place / "ballast"
    fill(ballast, 7 << 20)
    ids += [live.submit("ok.during") for _ in range(300)]  # more than one look takes
    live.drop({"action": kind, "match": {"task": "ok.*"}})
    live.do({"action": "resume"})
    ballast.unlink()
    live.wait_count(len(ids), state)
    assert live.journal("claim") == []
    live.status(lambda s: s["state"] == "running", "status says that it goes on")
    assert live.end(live.submit("ok.after"))["event"] == "done"


def test_what_runs_when_the_disk_fills_up_is_still_finished_once(small, tmp_path):
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.02; done"
    live = small("size=4m", 'min_free_bytes = "64KiB"\n' + handler("slow.*", script))
    live.start()
    task_id = live.submit("slow.a")
    live.entry(task_id, "running")
    # A status being written has a page that it gives back: enough for the end of a task.
    live.status(lambda s: s["running"], "status knows what runs")
    ballast = live.place / "ballast"
    fill(ballast, 0)
    go.touch()
    until(lambda: "full" in live.says(), "it says that the disk is full")
    ballast.unlink()
    assert live.end(task_id)["event"] == "done"
    assert [r["outcome"] for r in live.records(task_id)] == ["ok"]


def test_no_inodes_left_is_a_full_disk_too(small):
    live = small(
        "size=8m,nr_inodes=300", "min_free_bytes = 0\nmin_free_inodes = 40\n" + handler("ok.*", "true")
    )
    live.start()
    assert live.end(live.submit("ok.before"))["event"] == "done"
    full = live.place / "many"
    full.mkdir()
    for i in range(os.statvfs(live.place).f_favail - 30):
        (full / str(i)).touch()
    task_id = live.submit("ok.during")
    live.status(lambda s: "inodes" in s["state"], "status says that inodes are short")
    for path in full.iterdir():
        path.unlink()
    assert live.end(task_id)["event"] == "done"


def test_the_status_is_fresh_though_not_one_inode_is_left(small):
    toml = 'min_free_bytes = 0\nmin_free_inodes = 40\nhousekeeping = "200ms"\n'
    live = small("size=8m,nr_inodes=300", toml + handler("ok.*", "true"))
    live.start()
    full = live.place / "many"
    full.mkdir()
    with pytest.raises(OSError, match="No space left"):
        for i in range(300):
            (full / str(i)).touch()
    assert os.statvfs(live.place).f_favail == 0
    seen = live.status(lambda s: "inodes" in s["state"], "status says that inodes are short")
    for _ in range(3):
        last = seen["written_at"]
        seen = live.status(lambda s, last=last: s["written_at"] > last, "status is written again")
    for path in full.iterdir():
        path.unlink()
    assert live.end(live.submit("ok.after"))["event"] == "done"


def test_a_batch_of_more_tasks_than_inodes_waits_and_holds_up_nobody(small):
    toml = "min_free_bytes = 0\nmin_free_inodes = 40\n"
    live = small("size=8m,nr_inodes=300", toml + handler("ok.*", "true"))
    live.start()
    full = live.place / "many"
    full.mkdir()
    for i in range(100):
        (full / str(i)).touch()
    ids = live.submit_all([{"task": "ok.batch", "at": "+1d"} for _ in range(100)])
    assert live.end(live.submit("ok.single"))["event"] == "done"
    until(lambda: "100 tasks" in live.says(), "it says what waits")
    assert live.count("pending") == 0
    assert os.statvfs(live.place).f_favail >= 40
    for path in full.iterdir():
        path.unlink()
    live.wait_count(len(ids), "pending")


def test_one_task_that_there_are_no_inodes_for_is_taken_as_soon_as_there_are(small):
    toml = "min_free_bytes = 0\nmin_free_inodes = 40\n"
    live = small("size=8m,nr_inodes=300", toml + handler("ok.*", "true"))
    live.start()
    assert live.end(live.submit("ok.before"))["event"] == "done"
    full = live.place / "many"
    full.mkdir()
    live.signal(signal.SIGSTOP)
    task_id = live.submit("ok.during")
    for i in range(os.statvfs(live.place).f_favail - 41):
        (full / str(i)).touch()
    live.signal(signal.SIGCONT)
    until(lambda: "it brings 1 task, and there is room for 0" in live.says(), "it says what waits")
    for path in full.iterdir():
        path.unlink()
    assert live.end(task_id)["event"] == "done"


def test_a_service_manager_sees_that_a_daemon_without_room_lives(small, tmp_path):
    toml = "min_free_bytes = 0\nmin_free_inodes = 0\n" + handler(
        "slow", "touch $NOTES/up; read x < $NOTES/gate"
    )
    live = small("size=4m", toml)
    manager = Manager(tmp_path / "notify")
    gate = live.notes / "gate"
    os.mkfifo(gate)
    live.process = live.spoold(before=["env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=400000"])
    manager.hears("READY=1")
    task_id = live.submit("slow")
    until((live.notes / "up").exists, "it runs")
    ballast = live.place / "ballast"
    fill(ballast, 0)
    gate.write_text("go\n")
    until(lambda: "waiting for room" in live.errors.read_text(), "spoold waits for room")
    manager.silence()
    for _ in range(3):
        manager.hears("WATCHDOG=1")
    ballast.unlink()
    assert live.end(task_id)["event"] == "done"
    manager.socket.close()
