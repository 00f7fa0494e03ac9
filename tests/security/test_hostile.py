"""Whatever hostile users drop, honest ones are served, nothing is lost, nothing outside is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spool import layout, sysinit
from spool.disk import RealDisk
from spool.init import init
from spool.names import date_of, event_name, new_id
from spoold.core.values import Forward, Message, Refuse, Source
from spoold.effects.group import groups
from spoold.effects.store import Store
from tests.e2e.catalogue import ALL, SECRET
from tests.e2e.live import ROOT, handler, until
from tests.security.shared import (
    ANN,
    BOB,
    EVE,
    SHOP,
    SPOOLD,
    SUBMIT,
    Shared,
    become,
    made,
    needs_users,
    python,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Shared]

__all__ = ["made"]
pytestmark = [pytest.mark.root, needs_users]
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "2"))
MAL = 60104
IDS = int(os.environ.get("HOSTILE_IDS", "3000"))
MARK = "known to spoold alone"
RATE = "rate = 100000\n"
HONEST = f"""
[policy."user:{ANN}"]
tasks = ["note"]
{RATE}
[policy."user:{BOB}"]
tasks = ["note"]
{RATE}
"""
HEAD = 'settle = "1s"\ndurability = "relaxed"\nconcurrency = 4\n'
NOTE = handler("note", "true")


def outside(spool: Shared) -> Path:
    """A file beside the spool that spoold may read and nobody else."""
    path = spool.place / SECRET
    path.write_text(json.dumps({"task": "note", "args": MARK}))
    os.chown(path, SPOOLD, SPOOLD)
    path.chmod(0o600)
    return path


def found_inside(spool: Shared, text: str) -> list[str]:
    """Files of the spool that hold this text."""
    names = [p for p in spool.root.rglob("*") if p.is_file() and not p.is_symlink()]
    return [str(p) for p in names if p.stat().st_size < 1 << 24 and text.encode() in p.read_bytes()]


def test_the_corpus_from_a_user_who_may_anything_harms_nobody(made: Make) -> None:
    everything = (
        f'[policy."user:{EVE}"]\ntasks = ["*"]\npriority = "high"\noutboxes = ["*"]\nrun = true\n{RATE}'
    )
    spool = made(HEAD + HONEST + everything + NOTE)
    secret = outside(spool)
    spool.start()
    spool.signal(signal.SIGSTOP)
    before = [spool.submitted(ANN, "note", f"n={n}") for n in range(3)]
    made_by_eve = spool.script(EVE, _DROP)
    names: dict[str, int] = json.loads(made_by_eve.stdout)
    assert len(names) > len(ALL) - 10, made_by_eve.stderr
    after = [spool.submitted(BOB, "note", f"n={n}") for n in range(3)]
    spool.signal(signal.SIGCONT)
    for task_id in (*before, *after):
        spool.event("done", task_id)
    fates = {
        f: {n for n, i in names.items() if ALL[i].fate == f} for f in ("refused", "taken", "ignored")
    }
    incoming = spool.root / "incoming"
    until(lambda: set(os.listdir(incoming)) == fates["ignored"] | {".good"}, "only these stay")
    reasons = {r["name"]: r for r in (json.loads(p.read_bytes()) for p in spool.reasons())}
    wrong = []
    for name in fates["refused"]:
        case, reason = ALL[names[name]], reasons.get(name.encode("utf-8", "backslashreplace").decode())
        if reason is None or reason["field"] != case.field or case.rule not in str(reason["rule"]):
            wrong.append(f"{case.what}: {reason}")
    assert not wrong, "\n".join(wrong)
    until(lambda: spool.count("done") == 6 + len(fates["taken"]), "what is strange but good is done")
    assert found_inside(spool, MARK) == []
    assert secret.read_text().count(MARK) == 1


_DROP = f"""
import json, os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from spool import sysinit
from spool.names import event_name, new_id
from tests.e2e.catalogue import ALL
box = Path(root, "incoming")
(box / ".good").write_bytes(b'{{"task": "note"}}')
made = {{}}
for number, case in enumerate(ALL):
    try:
        made[case.make(box, number)] = number
    except OSError as problem:
        print("left out", case.what, problem, file=sys.stderr)
print(json.dumps(made))
"""


def test_hostile_writers_in_loops_beside_honest_ones(made: Make) -> None:
    hostile = "".join(
        f'[policy."user:{uid}"]\ntasks = ["note"]\nwaiting = 200\nfiles = 2000\nrate = 3000\n'
        for uid in (EVE, MAL)
    )
    spool = made(HEAD + HONEST + hostile + NOTE)
    secret = outside(spool)
    unchanged = secret.stat()
    trace = spool.place / "trace"
    if shutil.which("strace") is None:
        print("strace is not installed: what is opened is not looked at")
        spool.start()
    else:
        trace.mkdir()
        os.chown(trace, SPOOLD, SPOOLD)
        options = ["--seccomp-bpf", "-ff", "-qq", "-e", f"trace=/^({CALLS})", "-o", str(trace / "of")]
        spool.start_traced("strace", *options)
    pid = spool.status(lambda s: True, "it serves")["pid"]
    running = [
        attack(spool, role, uid, seed)
        for seed, (role, uid) in enumerate(
            [("hostile", EVE), ("hostile", MAL), ("hostile", EVE), ("honest", ANN), ("honest", BOB)]
        )
    ]
    said = [process.communicate(timeout=SECONDS + 100) for process in running]
    assert [p.returncode for p in running] == [0] * 5, said
    ids = [json.loads(out) for out, _ in said[3:]]
    wanted = {*ids[0], *ids[1]}
    until(
        lambda: len(wanted & ended(spool)) == len(wanted), "every honest task is done", 100 + 10 * SECONDS
    )
    memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]
    assert memory < 200_000, f"{memory} kB"
    spool.stop_traced(pid)
    assert found_inside(spool, MARK) == []
    assert (secret.stat().st_mtime_ns, secret.stat().st_nlink) == (unchanged.st_mtime_ns, 1)
    done = [path.rpartition("/")[2].split(",")[1] for path in spool.paths("done")]
    assert len(done) == len(set(done))
    kept = [json.loads(p.read_bytes()) for p in spool.reasons()]
    assert not [reason for reason in kept if reason.get("uid") in (ANN, BOB)]
    assert all(sum(1 for r in kept if r.get("uid") == uid) <= 1000 for uid in (EVE, MAL))
    assert not spool.journal("pause")
    assert not spool.journal("drain")
    assert "\x1b" not in spool.says()
    traces = list(trace.glob("of.*"))
    assert [line for path in traces for line in strange(path, str(spool.root))] == []
    assert not traces or any("incoming/" in path.read_text(errors="replace") for path in traces)


class Raced(RealDisk):
    """A disk whose `race` comes just before a file leaves its box."""

    race: Callable[[], None]

    def move(self, source: str, target: str) -> None:
        if source.startswith(layout.WRITERS):
            self.race()
        super().move(source, target)


def test_a_directory_that_takes_the_place_of_a_refused_file_stays_with_its_writer(tmp_path: Path) -> None:
    init(str(tmp_path / "spool"))
    disk, now = Raced(str(tmp_path / "spool")), 1_800_000_000_000_000
    box, rejected = f"{layout.WRITERS}/{EVE}", Path(disk.root, layout.REJECTED, date_of(now))
    disk.make_dir(box)
    bad, folder = Path(disk.root, box, "bad.json"), Path(disk.root, box, ".folder")
    folder.mkdir()

    def drop() -> None:
        bad.write_bytes(b"{}")
        os.chown(bad, EVE, EVE)

    def swap() -> None:
        bad.rename(bad.with_name(".bad"))
        folder.rename(bad)

    def die() -> None:
        raise KeyboardInterrupt

    def refuse() -> None:
        info = disk.info(f"{box}/bad.json")
        assert info is not None
        source = Source(f"{box}/bad.json", info.ino, info.ctime_us, EVE)
        message = Message("rejected", "shop", now, new_id(now), "unknown", {})
        for group in groups([Refuse(source, {"text": "no"}, message)]):
            Store(disk, "n", durable=False).perform(group, now)

    drop()
    disk.race = die
    with pytest.raises(KeyboardInterrupt):
        refuse()
    disk.race = lambda: None
    refuse()
    assert sorted(path.name for path in rejected.iterdir()) == ["bad.json", "bad.json.reason.json"]
    assert (rejected / "bad.json").read_bytes() == b"{}"
    drop()
    disk.race = swap
    refuse()
    assert bad.is_dir()
    assert [path.name for path in rejected.iterdir() if path.is_dir()] == []


def test_a_directory_that_takes_the_place_of_an_action_for_another_node_stays(tmp_path: Path) -> None:
    init(str(tmp_path / "spool"))
    disk, incoming = Raced(str(tmp_path / "spool")), tmp_path / "spool" / layout.INCOMING
    box = f"{layout.WRITERS}/{EVE}"
    disk.make_dir(box)
    one = Path(disk.root, box, "one.json")

    def swap() -> None:
        one.unlink()
        one.mkdir()

    def forward() -> bool:
        return Store(disk, "n", durable=False).forward(Forward(Source(f"{box}/one.json", 1, 1, EVE), "m"))

    disk.race = swap
    one.write_bytes(b"{}")
    assert forward()
    assert one.is_dir()
    assert os.listdir(incoming) == []
    one.rmdir()
    disk.race = lambda: None
    for data, goes in ((b"{}", True), (b"another", False)):
        one.write_bytes(data)
        assert forward() is goes
        assert (incoming / "to,m,one.json").read_bytes() == b"{}"


def attack(spool: Shared, role: str, uid: int, seed: int) -> subprocess.Popen[str]:
    words = [python(), "-m", "tests.security.attacks", role, str(spool.root), str(SECONDS), str(seed)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", **become(uid, SUBMIT)
    )


def ended(spool: Shared) -> set[str]:
    return {path.rpartition("/")[2].split(",")[1] for path in spool.paths("done")}


CALLS = "open|creat|rename|link|symlink|unlink|truncate|mkdir|rmdir|mknod|chmod|chown|fchmodat|fchownat"


def strange(trace: Path, root: str) -> list[str]:
    """Calls that changed something outside the spool, read what is beside it, or opened what was dropped
    in any other way than by O_PATH, which touches nothing."""
    bad = []
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"(\w+)\((.*)\) += (?!-1)", line)
        if call is None:
            continue
        name, rest = call[1], call[2]
        paths = re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
        reads = name.startswith("open") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", rest)
        out = [
            path for path in paths if path.startswith("/") and not path.startswith((root, "/dev/null"))
        ]
        dropped = name.startswith("open") and paths[0].startswith(("incoming/", "tmp/")) and reads
        if (
            (out and not reads)
            or any(".." in path.split("/") for path in paths)
            or (name.startswith("open") and any(path.endswith(SECRET) for path in paths))
            or (dropped and not ("O_PATH" in rest and "O_NOFOLLOW" in rest))
        ):
            bad.append(line)
    return bad


def test_a_flood_of_one_costs_the_others_a_turn_each_and_fills_no_disk(made: Make) -> None:
    few = f'[policy."user:{EVE}"]\ntasks = ["note"]\nfiles = 300\nrate = 100000\n'
    spool = made(HEAD + HONEST + few + NOTE)
    flood = """
import os
for n in range(1700):
    with open(f"{root}/tmp/.f", "wb") as file:
        file.write(b"{]")
    os.rename(f"{root}/tmp/.f", f"{root}/incoming/f{n}.json")
"""
    assert spool.script(EVE, flood).returncode == 0
    honest = spool.submitted(ANN, "note")
    spool.start()
    spool.event("done", honest)
    until(lambda: not os.listdir(spool.root / "incoming"), "all of it is dealt with")
    until(lambda: spool.journal("shed") or None, "what is not kept is counted")
    kept = [json.loads(p.read_bytes()) for p in spool.reasons()]
    assert len(kept) == 1000
    assert {r["uid"] for r in kept} == {EVE}
    assert any("has more than 300 files in incoming/ and tmp/" in str(r["rule"]) for r in kept)


def test_a_user_of_many_user_ids_has_one_turn_and_one_quota(made: Make) -> None:
    """As anybody whom subuid(5) gives ids that have no name here."""
    few = f'[policy."*"]\ntasks = ["other"]\nfiles = 300\n{RATE}'
    spool = made(HEAD + HONEST + few + NOTE)
    for n in range(IDS):
        spool.handed_in(100_000 + n, f"f{n}.json", {"task": "note"})
    honest = spool.submitted(ANN, "note")
    spool.start()
    spool.event("done", honest, within=5 + IDS / 1000)
    until(lambda: spool.journal("shed") or None, "what is not kept is counted")
    until(lambda: not os.listdir(spool.root / "incoming"), "all of it is dealt with", 30 + IDS / 100)
    rules = [str(json.loads(p.read_bytes())["rule"]) for p in spool.reasons()]
    assert len(rules) == 1000
    assert any("whoever has no name here has more than 300 files" in rule for rule in rules)


def test_who_is_over_his_rate_waits_and_the_others_do_not(made: Make) -> None:
    slow = f'[policy."user:{EVE}"]\ntasks = ["note"]\nrate = 10\n'
    spool = made(HEAD + HONEST + slow + NOTE)
    drop = 'from spool import Spool\nSpool(root).submit_many([{"task": "note"}])\n'
    assert spool.script(EVE, drop * 14).returncode == 0
    spool.start()
    spool.event("done", spool.submitted(ANN, "note"))
    until(lambda: spool.count("done") >= 11, "ten of his, and the other's")
    assert len([n for n in os.listdir(spool.root / "incoming") if n.endswith(".json")]) in (2, 3, 4)


def test_what_is_begun_and_never_finished_counts_in_the_quota_of_its_writer(made: Make) -> None:
    few = f'[policy."user:{EVE}"]\ntasks = ["note"]\nfiles = 5\n'
    spool = made(HEAD + HONEST + few + NOTE)
    leave = 'for n in range(9): open(f"{root}/tmp/.left{n}", "wb").write(b"x")'
    assert spool.script(EVE, leave).returncode == 0
    spool.start()
    until(lambda: len(os.listdir(spool.root / "tmp")) == 5, "what is too much goes")
    spool.event("done", spool.submitted(ANN, "note"))


def test_whoever_reads_an_outbox_cannot_stop_spoold_with_what_he_puts_there(made: Make) -> None:
    """What is no file of an event is counted and forgotten by nobody, and in no event's way."""
    spool = made(f"outbox_limit = 4\n{HEAD}{HONEST}{NOTE}")
    sysinit.add_outbox(str(spool.root), f"default={SHOP}")
    box = spool.root / "outbox" / "default"
    bad = new_id()
    spool.handed_in(ANN, "bad.json", {"task": "note", "id": bad, "no": 1})
    dropped = (spool.root / "incoming" / "bad.json").stat().st_ctime_ns // 1000
    folders = ["!d", *(event_name(n, new_id(), "note", "done") for n in range(9))]
    code = f"""
import os
os.chdir(root + "/outbox/default")
for name in {folders}:
    os.mkdir(name)
os.close(os.open({event_name(dropped, bad, "note", "rejected")!r}, os.O_CREAT, 0))
"""
    assert spool.script(SHOP, code, (SHOP,)).stderr == ""
    spool.start()
    until(lambda: sum(bad in name for name in os.listdir(box)) == 2, "the refusal is told beside it")
    ids = [spool.submitted(ANN, "note") for _ in range(9)]
    until(lambda: spool.count("done") == len(ids), "none is held up")
    until(
        lambda: sum((box / name).is_file() for name in os.listdir(box)) <= 4, "the oldest are forgotten"
    )
    spool.status(lambda s: s["full_outboxes"] == [], "it is not full")
    checked = spool.spool(SPOOLD, "fsck", "--force", groups=())
    assert "!d" in checked.stdout, checked.stderr
