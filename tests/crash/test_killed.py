"""The real daemon, killed by the kernel at the n-th system call of a kind; then it goes on.

strace does the killing, so these tests need it. The short form takes some of the n, the long form
(`-m long`) all of them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spool import fsck, layout, look
from spool.disk import RealDisk
from spool.init import init
from spool.names import id_from, parse_event

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

TOML = """
durability = "durable"
backoff = "1ms"
admission.enabled = false
[handlers."ok.*"]
exec = ["/bin/sh", "-c", "echo run >> $HOME_OF_TEST/$SPOOL_ID; echo '{}' > $SPOOL_RESULT"]
[handlers."ok.*".env]
HOME_OF_TEST = "{runs}"
[handlers."bad.*"]
exec = ["/bin/false"]
retries = 1
backoff = {{ base = 0, factor = 1, max = 0 }}
[handlers."never.*"]
exec = ["/bin/sh", "-c", "exit 65"]
"""
IDS = {name: id_from(1_795_000_000_000_000 + i, bytes([i] * 10)) for i, name in enumerate("abcdefgh")}
ENDS = {
    "a": "done",
    "b": "done",
    "c": "done",
    "d": "failed",
    "e": "failed",
    "f": "cancelled",
    "g": "done",
}


def drop(root: Path, name: str, action: object) -> None:
    text = action if isinstance(action, str) else json.dumps(action)
    (root / "tmp" / name).write_text(text)
    os.rename(root / "tmp" / name, root / "incoming" / name)


def scenario(root: Path) -> None:
    """Work of every kind, waiting in incoming/."""
    runs = root.parent / "runs"
    runs.mkdir()
    init(str(root))
    (root / "spool.toml").write_text(
        TOML.replace("{runs}", str(runs)).replace("{{", "{").replace("}}", "}")
    )
    drop(root, "a.json", {"id": IDS["a"], "task": "ok.a", "args": {"n": 1}})
    tasks = [{"id": IDS[i], "task": f"ok.{i}", "priority": "high"} for i in "bc"]
    drop(root, "bc.json", {"tasks": tasks})
    drop(root, "d.json", {"id": IDS["d"], "task": "bad.d"})
    drop(root, "e.json", {"id": IDS["e"], "task": "never.e"})
    drop(root, "f.json", {"id": IDS["f"], "task": "ok.f", "at": "+1d"})
    drop(root, "f2.json", {"action": "cancel", "ids": [IDS["f"]]})
    drop(
        root, "g.json", {"id": IDS["g"], "task": "ok.g", "deadline": "+2s", "lead": 1, "priority": "low"}
    )
    drop(root, "h.json", {"id": IDS["h"], "task": "ok.h", "unheard": 1})


def serve(root: Path, *strace: str) -> int:
    command = [sys.executable, "-m", "spoold", "--spool", str(root), "--node", "n", "--until-idle", "-q"]
    traced = ["strace", "-o", "/dev/null", *strace] if strace else []
    done = subprocess.run([*traced, *command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode


def check(root: Path) -> None:
    """Every promise that can be seen on the disk when all is done."""
    disk = RealDisk(str(root))
    try:
        places = list(look.entries(disk, layout.STATES))
        assert Counter(e.id for _, e in places) == Counter(IDS[i] for i in ENDS)
        assert {e.id: path.split("/")[0] for path, e in places} == {IDS[i]: s for i, s in ENDS.items()}
        told = Counter()
        for path in (root / "outbox" / "default").iterdir():
            _, task_id, _, event = parse_event(path.name)
            told[task_id, event] += 1
        for i, state in ENDS.items():
            assert told[IDS[i], state] == 1, (i, state, told)
            records = look.records(disk, IDS[i])
            assert [r["will_retry"] for r in records[:-1]] == [True] * (len(records) - 1)
            assert records[-1]["event"] == state
        assert told[IDS["h"], "rejected"] == 1
        assert len(list(root.glob("rejected/*/h.json"))) == 1
        assert not list((root / "incoming").iterdir())
        assert [f for f in fsck.check(disk) if f.grave] == []
        assert list((root / "running" / "n").iterdir()) == []
    finally:
        disk.close()


def killed_at(tmp_path: Path, call: str, n: int) -> bool:
    """Kill at the n-th call of this kind, restart, check. False where there is no n-th."""
    root = tmp_path / f"{call}{n}" / "spool"
    root.parent.mkdir()
    scenario(root)
    follow = ["-f"] if call == "fsync" else []  # most of them are in threads of their own
    status = serve(root, *follow, "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={n}")
    if status == 0:
        check(root)
        return False
    assert serve(root) == 0
    check(root)
    shutil.rmtree(root.parent)
    return True


CALLS = {"renameat": 1, "linkat": 1, "unlinkat": 1, "fsync": 1}


@pytest.mark.parametrize(
    ("call", "n"),
    [
        ("renameat", 1), ("renameat", 5), ("renameat", 11), ("renameat", 18), ("renameat", 27),
        ("linkat", 1), ("linkat", 6), ("linkat", 10), ("unlinkat", 2), ("unlinkat", 6),
        ("fsync", 1), ("fsync", 2), ("fsync", 3),
    ],
)  # fmt: skip
def test_a_kill_at_any_call_loses_nothing_and_tells_everything_once(tmp_path, call, n):
    killed_at(tmp_path, call, n)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", ["renameat", "linkat", "unlinkat", "fsync", "write", "openat"])
def test_a_kill_at_every_call_loses_nothing_and_tells_everything_once(tmp_path, call):
    step = 1 if call in CALLS else 9  # most writes and opens are Python's own start
    n = 1
    while killed_at(tmp_path, call, n):
        n += step
    print(f"{call}: killed at {n - 1} points")
    assert n > 3


ERRORS = [
    ("fsync", "EIO", 3), ("renameat", "EACCES", 3), ("linkat", "EIO", 3), ("unlinkat", "EROFS", 2),
    ("renameat", "EIO", 12), ("linkat", "EMLINK", 8),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "n"), ERRORS)
def test_an_error_of_the_disk_ends_it_loudly_and_loses_nothing(tmp_path, call, error, n):
    root = tmp_path / "spool"
    scenario(root)
    follow = ["-f"] if call == "fsync" else []
    status = serve(root, *follow, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={n}")
    assert status != 0
    assert serve(root) == 0
    check(root)


# Python opens some hundred files to start; these numbers lie in its work for the spool.
@pytest.mark.parametrize(
    ("call", "what", "n"),
    [("openat", "error=EMFILE", 700), ("openat", "error=ENFILE", 730), ("openat", "error=EIO", 760)]
    + [("write", f"error={e}", n) for e in ("ENOSPC", "EDQUOT", "EIO") for n in (4, 10)],
)
def test_whatever_a_call_answers_nothing_is_lost_in_the_end(tmp_path, call, what, n):
    root = tmp_path / "spool"
    scenario(root)
    serve(root, "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={n}")
    assert serve(root) == 0
    check(root)


def test_a_disk_that_is_full_for_a_while_is_waited_for(tmp_path):
    root = tmp_path / "spool"
    scenario(root)
    status = serve(root, "-e", "trace=linkat", "-e", "inject=linkat:error=ENOSPC:when=2..4")
    assert status == 0
    check(root)
