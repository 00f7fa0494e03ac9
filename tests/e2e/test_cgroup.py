"""A handler with `cgroup`: memory holds for all processes of an attempt, or it is said why it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spoold.effects.handlers import OUT_OF_MEMORY
from spoold.effects.owngroups import OwnGroups
from spoold.sources import cgroups
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

# Each of three processes takes less than `memory`; together they take more.
EAT = "import time; x = b'x' * (60 << 20); print('ate', flush=True); time.sleep(0.5)"
START = f'"{sys.executable}" -c "{EAT}" & '
THREE = f"{START} a=$!; {START} b=$!; {START} wait $! && wait $a && wait $b"
ONE = f'"{sys.executable}" -c "{EAT}"; cat /proc/self/cgroup > $NOTES/inside'


@pytest.fixture
def base() -> Path:
    """Where groups can be made on this machine; skips where they cannot."""
    found = cgroups.groups("")
    own = OwnGroups(f"test {os.getpid()}", found.memory, found.unified)
    if found.memory == found.unified:
        pytest.skip("version 2: this test may not move the processes it runs among to another group")
    own.prepare(wanted=True)
    if own.problem is not None:
        pytest.skip(f"no control group can be made here: {own.problem}")
    return Path(found.memory[0])


def test_what_takes_too_much_together_is_killed_and_the_record_says_why(base: Path, live: Make) -> None:
    more = {"memory": "100MiB", "cgroup": True, "retries": 0}
    spool = live(handler("three", THREE, **more) + handler("one", ONE, **more))
    assert spool.end(spool.submit("one"))["event"] == "done"
    assert "spool-" in spool.note("inside")
    end = spool.end(spool.submit("three"))
    assert end["event"] == "failed"
    assert end["error"]["message"] == OUT_OF_MEMORY
    assert (spool.status_now() or {})["no_cgroup"] is None
    until(lambda: not [p for p in base.glob("spool-*") if p.name.count(".") == 2], "no group is left")


def test_where_none_can_be_made_it_is_said_and_the_task_runs(spool_at: Make, tmp_path: Path) -> None:
    spool = spool_at(handler("one", "echo here", memory="100MiB", cgroup=True))
    # no control group at all is seen from a mount namespace in which they are covered
    cover = ["unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup && exec "$@"', "sh"]
    if subprocess.run([*cover, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    spool.process = spool.spoold(before=cover)
    until(spool.status_now, "spoold serves")
    assert spool.end(spool.submit("one"))["event"] == "done"
    assert (spool.status_now() or {})["no_cgroup"] == "no control group for memory is mounted"
    for verb in ("status", "doctor"):
        words = [sys.executable, "-m", "spool", "--spool", str(spool.root), verb]
        said = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False).stdout
        assert "no control group for memory is mounted" in said, said
    assert "limits hold for each process" in spool.says()
