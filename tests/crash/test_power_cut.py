"""The power goes out under a real file system: what was promised is there when it comes back.

An ext4 image lies on an XFS that can clone files. Cloning the image while the daemon works is one
atomic step, and the clone is what a disk holds at the moment the power fails: all that was written to
the device, nothing of what the kernel had not written yet.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from spool import fsck, layout, look
from spool.disk import RealDisk
from spool.init import init
from spool.names import new_id, parse_event

TOOLS = ("mkfs.xfs", "mkfs.ext4", "mount", "losetup")
pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="mounting an image needs root"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)} (xfsprogs, e2fsprogs)"
    ),
]
TOML = """
durability = "durable"
concurrency = 2
admission.enabled = false
[handlers."ok.*"]
exec = ["/bin/true"]
[handlers."bad.*"]
exec = ["/bin/false"]
retries = 1
backoff = 0.05
"""


def sh(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def image(path, size, *make):
    with open(path, "wb") as file:
        file.truncate(size)
    done = sh(*make, str(path))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def ground(tmp_path):
    """An XFS to clone images on."""
    image(tmp_path / "xfs.img", 512 << 20, "mkfs.xfs", "-q", "-m", "reflink=1")
    place = tmp_path / "ground"
    place.mkdir()
    done = sh("mount", "-o", "loop", str(tmp_path / "xfs.img"), str(place))
    if done.returncode:
        pytest.skip(f"this kernel mounts no XFS image: {done.stderr.strip()}")
    yield place
    for name in ("disk", "after"):
        sh("umount", "-l", str(tmp_path / name))
    sh("umount", "-l", str(place))


def submit(root, task, **more):
    """What a durable client does; returns the id once it is promised."""
    task_id = new_id()
    path = root / "tmp" / f".{task_id}"
    with open(path, "w") as file:
        json.dump({"id": task_id, "task": task, **more}, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path, root / "incoming" / f"{task_id}.json")
    fd = os.open(root / "incoming", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return task_id


class Writer(threading.Thread):
    """Submits until it is told to stop; `promised` is what it got an id for."""

    def __init__(self, root, seed):
        super().__init__(daemon=True)
        self.root, self.rng = root, random.Random(seed)
        self.promised = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            name = self.rng.choice(["ok.a", "ok.b", "bad.c"])
            prio = self.rng.choice(["high", "medium", "low"])
            self.promised.append(submit(self.root, name, priority=prio))


def spoold(root, *more):
    command = [sys.executable, "-m", "spoold", "--spool", str(root), "--node", "n", "-q", *more]
    return subprocess.Popen(command)


def cut_once(tmp_path, ground, seed):
    """One life, one cut, one recovery."""
    rng = random.Random(seed)
    disk_image, cut_image = ground / "disk.img", ground / "cut.img"
    image(disk_image, 192 << 20, "mkfs.ext4", "-q", "-F")
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir(exist_ok=True)
    after.mkdir(exist_ok=True)
    assert sh("mount", "-o", "loop", str(disk_image), str(disk)).returncode == 0
    root = disk / "spool"
    init(str(root))
    (root / "spool.toml").write_text(TOML)
    os.sync()
    daemon, writer = spoold(root), Writer(root, seed)
    writer.start()
    wanted = rng.randint(20, 400)
    while len(list((root / "outbox").rglob("*.json"))) < wanted:
        time.sleep(rng.random() * 0.01)
    promised = list(writer.promised)
    done = sh("cp", "--reflink=always", str(disk_image), str(cut_image))
    assert done.returncode == 0, done.stderr
    daemon.kill()
    daemon.wait()
    writer.over.set()
    writer.join(10)
    assert sh("umount", "-l", str(disk)).returncode == 0
    assert sh("mount", "-o", "loop", str(cut_image), str(after)).returncode == 0
    check(after / "spool", promised)
    assert sh("umount", "-l", str(after)).returncode == 0
    disk_image.unlink()
    cut_image.unlink()
    return len(promised)


def check(root, promised):
    again = spoold(root, "--until-idle")
    assert again.wait(60) == 0
    # What failed just now waits for its next attempt, a moment away: until nothing waits any more.
    disk = RealDisk(str(root))
    deadline = time.monotonic() + 30
    while any(layout.PENDING in path for path, _ in look.entries(disk, (layout.PENDING,))):
        assert time.monotonic() < deadline
        assert spoold(root, "--until-idle").wait(60) == 0
    try:
        places = Counter(e.id for _, e in look.entries(disk, layout.STATES))
        assert set(promised) <= set(places)
        assert set(places.values()) <= {1}
        assert [f for f in fsck.check(disk) if f.grave] == []
        told = Counter()
        for name in os.listdir(root / "outbox" / "default"):
            _, task_id, _, event = parse_event(name)
            told[task_id] += event in ("done", "failed")
        assert told == dict.fromkeys(places, 1)
    finally:
        disk.close()


@pytest.mark.root
def test_what_was_promised_survives_a_power_cut(tmp_path, ground):
    for seed in (1, 2):
        assert cut_once(tmp_path, ground, seed) > 0


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_what_was_promised_survives_many_power_cuts(tmp_path, ground):
    total = sum(cut_once(tmp_path, ground, seed) for seed in range(100, 160))
    print(f"60 cuts, {total} tasks promised before them")
