"""Whatever is dropped, the daemon lives, honest work goes on, and nothing else is read."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from spool.names import new_id
from spool.safe import safe
from tests.e2e.catalogue import ALL, DEVICES, SECRET, Case
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

ROOT = os.getuid() == 0
NOTE = 'settle = "1s"\ndurability = "relaxed"\n' + handler("note", "true")
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,140}")


def shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def dropped(spool: Live, cases: list[Case]) -> dict[str, Case]:
    """Everything at once, to a daemon that looks away, and honest tasks between."""
    incoming = spool.root / "incoming"
    (spool.place / SECRET).write_bytes(b'{"task": "note", "args": "secret"}')
    (incoming / ".good").write_bytes(b'{"task": "note"}')
    names = {}
    for number, case in enumerate(cases):
        try:
            names[case.make(incoming, number)] = case
        except OSError as problem:  # a file system that has no such thing
            print(f"left out {case.what}: {problem}")
    return names


def test_a_corpus_of_bad_input_beside_honest_work(live: Make) -> None:
    spool = live(NOTE)
    spool.signal(signal.SIGSTOP)
    honest = [spool.submit("note", args=n) for n in range(25)]
    cases = [*ALL, *(DEVICES if ROOT else [])]
    names = dropped(spool, cases)
    honest += [spool.submit("note", args=n) for n in range(25)]
    spool.signal(signal.SIGCONT)

    fates = {
        fate: {n for n, c in names.items() if c.fate == fate} for fate in ("refused", "taken", "ignored")
    }
    incoming = spool.root / "incoming"
    until(
        lambda: set(os.listdir(incoming)) == fates["ignored"] | {".good"},
        f"only these stay: {fates['ignored']}",
    )
    for task_id in honest:
        spool.event("done", task_id)
    reasons = {}
    for path in spool.reasons():
        reason = json.loads(path.read_bytes())
        reasons[reason["name"]] = reason
        assert SAFE.fullmatch(path.name), path
    wrong = []
    for name in fates["refused"]:
        case, reason = names[name], reasons.pop(shown(name), None)
        if reason is None:
            wrong.append(f"{case.what}: not refused")
        elif reason["field"] != case.field or case.rule not in str(reason["rule"]):
            wrong.append(f"{case.what}: {reason['field']}: {reason['rule']}")
    assert not wrong, "\n".join(wrong)
    assert reasons == {}
    until(
        lambda: spool.count("done") == len(honest) + len(fates["taken"]),
        "what is strange but good is done",
    )
    assert len(spool.events("default", "rejected")) == len(fates["refused"])
    kept = [p.name for p in (spool.root / "rejected").glob("*/*") if not p.name.endswith(".reason.json")]
    assert len(kept) == len(fates["refused"])
    assert [name for name in kept if not SAFE.fullmatch(name)] == []
    assert "\x1b" not in spool.says()
    events = (spool.root / "outbox/default").iterdir()
    told = [*spool.reasons(), *events, *(spool.root / "journal").glob("*/*.jsonl")]
    texts = {path: path.read_text() for path in told}
    assert [path for path, text in texts.items() if safe(text, keep="\n") != text] == []
    assert sum("\\u202e" in text for text in texts.values()) >= 3


@pytest.mark.root
@pytest.mark.skipif(not ROOT or shutil.which("strace") is None, reason="needs root and strace")
def test_nothing_but_regular_files_of_the_spool_is_opened(spool_at: Make) -> None:
    spool = spool_at(NOTE)
    dropped(spool, [*ALL, *DEVICES])
    trace = spool.place / "trace"
    task_id = spool.submit("note")
    process = spool.spoold(
        "--until-idle",
        before=["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace)],
    )
    try:
        assert process.wait(100) == 0
    finally:
        process.kill()
        process.wait()
    assert spool.event("done", task_id)
    opened = re.findall(
        r'open\w*\(\w+, "((?:incoming/)[^"]*)", ([A-Z_|]+)[^)]*\) = (\S+)', trace.read_text()
    )
    assert len(opened) > 50
    assert SECRET not in trace.read_text().replace(f"../../{SECRET}", "")
    for name, flags, _ in opened:
        assert "O_NOFOLLOW" in flags, name
        assert "O_NONBLOCK" in flags, name


def test_a_file_that_its_writer_still_holds_is_waited_for_and_stops_nobody(live: Make) -> None:
    spool = live(NOTE)
    path = spool.root / "incoming" / "held.json"
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        staged = spool.root / "tmp" / "held.json"
        staged.write_bytes(b'{"task": "note", "args": "held"}')
        with staged.open("rb+") as file:
            try:
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as problem:
                pytest.skip(f"no leases here: {problem}")
            staged.rename(path)
            spool.event("done", spool.submit("note"))
            assert path.exists()
        assert spool.event("done")["args"] == "held"
    finally:
        signal.signal(signal.SIGIO, before)


def test_a_writer_who_goes_on_writing_changes_nothing_that_was_taken_in(live: Make) -> None:
    spool = live(NOTE)
    task_id = new_id()
    path = spool.root / "incoming" / "mine.json"
    data = json.dumps({"task": "note", "id": task_id, "args": "first", "at": "+1h"}).encode()
    with path.open("wb+") as file:
        file.write(data)
        file.flush()
        with mmap.mmap(file.fileno(), len(data)) as view:
            spool.entry(task_id, "pending")
            view[:] = data.replace(b"first", b"other")
            file.truncate(0)
    spool.do({"action": "move", "ids": [task_id], "at": "+0s"})
    assert spool.event("done", task_id)["args"] == "first"


def test_a_file_that_grows_and_shrinks_without_end_is_refused_or_waits_and_stops_nobody(
    live: Make,
) -> None:
    spool = live("max_action_bytes = 4096\n" + NOTE)
    path = spool.root / "incoming" / "grows.json"
    stop = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            while not stop.is_set():
                file.write(b'{"task": "note", "args": "' + b"x" * 500)
                if file.tell() > 3000:
                    file.truncate(0)
                    file.seek(0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            spool.event("done", spool.submit("note", args=number))
    finally:
        stop.set()
        writer.join()
    until(lambda: not path.exists(), "it is dealt with at last")
    assert len(spool.reasons()) <= 1


def test_files_that_vanish_at_once_do_no_harm(live: Make) -> None:
    spool = live(NOTE)
    for number in range(300):
        path = spool.put(f"gone{number}.json", b'{"task": "note", "args": "gone"}')
        path.unlink(missing_ok=True)
    spool.event("done", spool.submit("note", args="stays"))


def test_a_flood_of_directories_is_left_alone(live: Make) -> None:
    spool = live(NOTE)
    for number in range(500):
        (spool.root / "incoming" / f"d{number}.json").mkdir()
    spool.event("done", spool.submit("note"))
    assert len(os.listdir(spool.root / "incoming")) == 500


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_a_file_that_may_not_be_read_waits_for_its_writer(live: Make) -> None:
    spool = live(NOTE)
    path = spool.put("closed.json", b'{"task": "note", "args": "closed"}')
    path.chmod(0)
    spool.event("done", spool.submit("note"))
    path.chmod(0o600)
    assert spool.event("done")["args"] in ("closed", {})


@pytest.mark.root
@pytest.mark.skipif(not ROOT or shutil.which("chattr") is None, reason="needs root and chattr")
def test_an_action_that_cannot_be_removed_is_carried_out_once_and_stops_nobody(live: Make) -> None:
    spool = live(handler("note", "cat >> $NOTES/order"))
    path = spool.root / "incoming" / "stuck.json"
    spool.signal(signal.SIGSTOP)
    path.write_bytes(b'{"task": "note", "args": "stuck"}')
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        spool.signal(signal.SIGCONT)
        for number in range(3):
            spool.event("done", spool.submit("note", args=number))
        assert spool.lines("order").count('"stuck"') <= 1
        assert spool.process is not None
        assert spool.process.poll() is None
    finally:
        subprocess.run(["chattr", "-i", path], check=False)
