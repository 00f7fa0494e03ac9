"""A client of an older version works with the daemon of today, at the same time as one of today.

client-0.1.0.zip is the library and the command as they were then. It is never edited; a version that
changes what clients say or read gets an archive of its own beside it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spool import Spool
from tests.e2e.live import Live, handler

HERE = Path(__file__).parent
OLD = "client-0.1.0.zip"
SETTINGS = handler("echo", "cat > $SPOOL_RESULT") + '[handlers."order.*"]\nnotify = "shop"\n'
# What the old client does, and says of it.
STORY = """
import json, sys
from spool import Spool
assert ".zip" in sys.modules["spool"].__file__
spool = Spool(sys.argv[1])
one = spool.submit("echo", {"n": 1})
many = spool.submit_many([{"task": "echo", "args": {"n": n}} for n in range(20)])
later = spool.submit("echo", {}, at="+1d", priority="high", position="front", retries=1, timeout="30s")
spool.cancel(later)
order = spool.submit("order.new", {"what": "tea"})
for event in spool.outbox("shop", timeout=60):
    if event.event == "ready":
        spool.ack(event.id, event.attempt, {"paid": True})
    if event.event == "done":
        break
ends = [spool.wait(i, timeout=60)["event"] for i in (one, *many, order)]
gone = spool.wait(later, timeout=60)["event"]
shown = spool.get(one)
listed = [row.id for row in spool.list("done")]
print(json.dumps({"one": one, "ends": ends, "gone": gone, "state": shown.state, "listed": len(listed)}))
"""


@pytest.fixture
def live(tmp_path):
    found = Live(tmp_path, SETTINGS)
    yield found.start()
    found.close()


def old(*words, script=None):
    """Run the old client, by its command or as a script."""
    command = [sys.executable, *(("-c", script) if script else ("-m", "spool")), *words]
    env = {**os.environ, "PYTHONPATH": str(HERE / OLD)}
    done = subprocess.run(
        command, cwd="/", env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_old_library_and_a_new_one_share_a_spool(live):
    with Spool(live.root) as new:
        ours = new.submit_many([{"task": "echo", "args": {"ours": n}} for n in range(20)])
        said = json.loads(old(str(live.root), script=STORY))
        assert said["ends"] == ["done"] * 22
        assert said["gone"] == "cancelled"
        assert said["state"] == "done"
        assert said["listed"] >= 22
        assert [new.wait(i, timeout=60)["event"] for i in ours] == ["done"] * 20
        assert new.get(said["one"]).result == {"n": 1}


def test_an_old_command_is_understood(live):
    at = ("--spool", str(live.root))
    task_id = old("submit", *at, "echo", "to=zoe").strip()
    assert json.loads(old("wait", *at, "--json", task_id))["event"] == "done"
    assert json.loads(old("show", *at, "--json", task_id))["id"] == task_id
    held = old("submit", *at, "echo", "--at", "+1h").strip()
    old("hold", *at, held)
    old("release", *at, held)
    old("cancel", *at, held)
    assert live.end(held)["event"] == "cancelled"
