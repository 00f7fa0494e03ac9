"""A spool that an older version left is served by this one: every state, every field, nothing lost.

format-1.tar.gz was written by version 0.1.0 and killed in the middle. It is never edited; a new
format gets an archive of its own beside it. It is a tar archive because hard links matter.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from spool import fsck, layout, look
from spool.disk import RealDisk
from spool.names import entry_name, id_from
from tests.e2e.live import Live

HERE = Path(__file__).parent
AGES = [
    "pack_after",
    *(f"keep_{what}" for what in ["done", "failed", "cancelled", "ids", "logs", "journal"]),
]


# Of entries in every state: where each stands, and the fields of its name, as version 0.1.0 writes them.
# Never edited: daemons of two versions serve one spool while one is replaced, and each gives a name that
# it would write otherwise the form that it knows.
NAMES = """
pending/2026-11-21/medium
pending/2026-11-21/low
pending/2026-11-21/low b=low,n=1
pending/2026-11-21/medium x=1
pending/2026-11-21/low b=high,n=2
pending/2026-11-21/low b=medium,i=1,n=1,x=1
pending/2026-11-21/high b=high,n=1,p=f
pending/2026-11-21/high b=low,d=20261121T065225Z,u=1
pending/2026-11-21/high b=high,d=20261121T065225Z,u=2
pending/2026-11-21/medium d=20261121T065225Z,l=2.5,m=drop
pending/2026-11-21/medium d=20261121T065225Z,l=0,m=fail
pending/2026-11-21/low a=2,x=1
pending/2026-11-21/medium g=0123456789ab,i=3,o=1000,p=f
pending/2026-11-21/low b=medium,e=new,n=1,y=
running/n c=medium,s=20261121
running/n b=low,c=low,n=1,s=20261121,t=20261121T065225Z
running/n b=high,c=high,d=20261121T065225Z,s=20261121,u=2,w=cancelled
held c=medium,s=20261121,w=no-handler
held b=low,c=low,n=1,s=20261121,w=asked
held c=medium,d=20261121T065225Z,p=f,s=20261121,w=after
done/2026-11-21 c=high,s=20261121,x=1
failed/2026-11-21 b=low,c=low,n=3,s=20261121
failed/2026-11-21 a=1,b=medium,c=low,n=2,s=20261121,x=1
cancelled/2026-11-21 b=medium,c=high,d=20261121T065225Z,s=20261121,u=1
"""


def golden_id(n):
    return id_from(1_795_000_000_000_000 + n * 1_000_000, bytes([n] * 10))


@pytest.fixture
def live(tmp_path):
    found = Live(tmp_path)
    shutil.rmtree(found.root)
    found.root.mkdir(mode=0o700)
    with tarfile.open(HERE / "format-1.tar.gz") as archive:
        archive.extraction_filter = lambda member, _: member  # our own archive, hard links and all
        archive.extractall(found.root)
    text = (found.root / layout.SETTINGS).read_text()
    found.settings("".join(f'{age} = "3650d"\n' for age in AGES) + text)  # it is older each day
    found.node = "golden"
    yield found
    found.close()


def test_every_task_of_an_old_spool_is_where_it_was_or_goes_on(live):
    assert live.where(golden_id(4))[0] == "running"  # past its time-out since 2026-12-21: said before
    live.drop({"action": "ack", "id": golden_id(4), "attempt": 1, "result": {"paid": True}})
    live.start()
    assert live.end(golden_id(13))["args"] == {"old": "client"}  # was waiting in incoming/
    states = {n: live.where(golden_id(n))[0] for n in (1, 2, 5, 6, 7, 8)}
    assert states == {1: "done", 2: "failed", 5: "held", 6: "pending", 7: "cancelled", 8: "held"}
    assert live.where(golden_id(3))[0] in ("pending", "running", "failed")
    assert live.end(golden_id(4), "shop")["result"] == {"paid": True}


def test_all_that_was_said_of_a_task_is_still_known(live):
    disk = RealDisk(str(live.root))
    try:
        task = look.find(disk, golden_id(6)).task
        assert (task.front, task.retries, task.on_miss) == (True, 7, "fail")
        assert (task.backoff.base, task.backoff.factor, task.backoff.max) == (5_000_000, 3, 3_600_000_000)
        assert task.timeout == 120_000_000
        assert task.extra["x-note"] == "kept"
        place = look.find(disk, golden_id(1))
        assert place.task.args == {"text": "héllo", "list": [1, 2.5, None, True]}
        assert place.task.meta == {"who": "golden"}
        assert place.last["outcome"] == "ok"
        assert look.find(disk, golden_id(5)).task.version == 3
    finally:
        disk.close()


def test_an_old_spool_is_sound(live):
    disk = RealDisk(str(live.root))
    try:
        assert [f for f in fsck.check(disk) if f.grave] == []
    finally:
        disk.close()


@pytest.mark.parametrize("row", NAMES.strip().splitlines())
def test_an_entry_keeps_the_name_that_an_old_version_gave_it(row):
    folder, _, fields = row.partition(" ")
    name = ",".join(filter(None, ["055225.671864", golden_id(1), "mail.send", fields])) + ".json"
    entry = look.entry_at(f"{folder}/{name}")
    assert entry_name(entry, dated=not folder.startswith("pending/")) == name


def test_what_an_old_version_paused_stays_paused(live):
    live.start()
    status = live.status(lambda s: s["pauses"], "the pause is known")
    assert [(p["scope"] if "scope" in p else p["task"], p["why"]) for p in status["pauses"]] == [
        ("paused.*", "golden")
    ]


def test_a_held_task_goes_on_when_its_code_arrives(live):
    live.start()
    old = (live.root / layout.SETTINGS).read_text()
    live.settings(old + '[handlers."unknown.*"]\nexec = ["/bin/true"]\n')
    assert live.end(golden_id(5))["event"] == "done"


def test_resending_an_old_task_is_no_second_task(live):
    body = json.loads((live.root / "incoming" / "13.json").read_text())
    live.start()
    live.end(golden_id(13))
    live.do(body)
    assert len(live.records(golden_id(13))) == 1
