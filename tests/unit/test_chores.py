"""What nothing waits for stays small and quiet: no chore keeps the daemon awake, whatever the disk says."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from spool import layout, occurrences
from spool.disk import DiskFull, RealDisk
from spool.failures import KEPT, decode
from spool.names import new_id
from spool.prune import oldfiles
from spool.settings import load
from spool.times import format_utc, parse_utc
from spoold import locks
from spoold.core import alerts
from spoold.core.care import say
from spoold.core.state import State
from spoold.core.values import Message, Now, Tell
from spoold.effects import oldnodes
from spoold.effects.census import Census
from spoold.effects.errorfiles import ErrorFiles, meet
from spoold.effects.metrics import Metrics
from spoold.effects.packer import Packer
from tests.e2e.live import until

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_795_262_400_000_000
LIMITS = (20, 600_000_000)


class Full:
    """A disk on which nothing new finds room."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        raise DiskFull(28, "no room", path)


def failure(number: int) -> dict[str, Any]:
    error = {"type": "x", "message": "m", "trace": None, "fingerprint": f"{number:016x}"}
    return {"error": error, "id": new_id(), "attempt": 1, "task": "t", "event": "failed",
            "version": None, "node": "n"}  # fmt: skip


def quiet(chore: Any, state: State, steps: int = 2000) -> int | None:
    """Do it until it wants a rest of more than a tenth of a second; how long that is."""
    mono = 0
    for _ in range(steps):
        wait = chore.due(Now(NOON, mono))
        if wait is None or wait > 100_000:
            return wait
        mono += wait
        chore.step(Now(NOON, mono))
    raise AssertionError(f"{chore} never rests")


def chores(disk: Any, state: State) -> list[Any]:
    census = Census(disk, state)
    packer = Packer(disk, state, disk.root)
    return [ErrorFiles(disk, state, disk.root), packer, census, Metrics(disk, state, census, NOON)]


@pytest.mark.parametrize("full", [False, True])
def test_every_chore_comes_to_rest(disk: RealDisk, *, full: bool) -> None:
    state = State("n", load(""), 2)
    for number in range(100):
        state.groups.count(failure(number), NOON, LIMITS)
    if full:
        state.shut = "disk full"
    for chore in chores(Full(disk) if full else disk, state):
        quiet(chore, state)


def test_groups_are_bounded_in_memory_and_on_disk(disk: RealDisk) -> None:
    state = State("n", load(""), 2)
    files = ErrorFiles(disk, state, disk.root)
    for number in range(KEPT + 50):
        state.groups.count(failure(number), NOON + number, (1, 0))
        if number % 100 == 0:
            files.close(NOON)
    files.close(NOON)
    assert len(state.groups.table) == len(state.groups._frequent_at) == KEPT
    assert len([name for name in disk.names("errors") if name[0] != "."]) == KEPT
    again = State("n", load(""), 2)
    ErrorFiles(disk, again, disk.root).load(NOON)
    assert list(again.groups.table) == list(state.groups.table)


def test_a_start_reads_of_the_journal_what_the_files_do_not_tell(disk: RealDisk) -> None:
    state = State("n", load(""), 2)
    files = ErrorFiles(disk, state, disk.root)
    disk.make_dir("journal/n")
    for number in range(6):
        said = {**failure(number), "outcome": "error"}
        state.groups.count(said, NOON + number, LIMITS)
        journal(disk, said, NOON + number)
        if number == 2:
            files.close(NOON)
    # The first three are in the files, so nobody looks for their lines: one that was not told is not seen.
    found = told_again(disk)
    assert sorted(found) == [f"{number:016x}" for number in range(6)]
    disk.remove(f"errors/{1:016x}.json")
    assert sorted(told_again(disk)) == [f"{number:016x}" for number in (0, 2, 3, 4, 5)]
    # A file that is damaged may have told anything: all is read.
    disk.remove(f"errors/{0:016x}.json")
    disk.write(f"errors/{0:016x}.json", b"{")
    assert sorted(told_again(disk)) == [f"{number:016x}" for number in range(6)]


def test_what_several_nodes_count_is_added_up_whoever_writes(disk: RealDisk) -> None:
    states = [State(node, load(""), 2) for node in ("n1", "n2")]
    files = [ErrorFiles(disk, state, disk.root) for state in states]
    for number in range(12):
        which = number % 3 // 2  # two of three are of n1
        for _ in range(number % 4):
            fail_on(disk, states[which], NOON + number)
        if number % 5:
            files[which].close(NOON)
    for one in files:
        one.close(NOON)
    found = decode(disk.read(f"errors/{7:016x}.json", 1 << 20))
    by_node = {"n1": 12, "n2": 6}
    assert (found.count, found.failed, found.nodes) == (18, 18, by_node)
    assert (found.first, found.last, found.versions) == (NOON + 1, NOON + 11, {"none": 18})
    assert [sum(buckets.values()) for buckets in found.histogram.values()] == [18, 18, 18]
    assert len(found.examples) == 5
    assert found.examples[0]["at"] == format_utc(NOON + 11)


def test_a_node_whose_number_was_written_over_says_it_again(disk: RealDisk) -> None:
    one, two = State("n1", load(""), 2), State("n2", load(""), 2)
    fail_on(disk, one, NOON)
    ErrorFiles(disk, one, disk.root).close(NOON)
    before = disk.read(f"errors/{7:016x}.json", 1 << 20)
    fail_on(disk, two, NOON)
    ErrorFiles(disk, two, disk.root).close(NOON)
    disk.remove(f"errors/{7:016x}.json")
    disk.write(f"errors/{7:016x}.json", before)
    two.groups.table[f"{7:016x}"].frequent = NOON
    fail_on(disk, two, NOON)
    ErrorFiles(disk, two, disk.root).close(NOON)
    found = decode(disk.read(f"errors/{7:016x}.json", 1 << 20))
    assert (found.count, found.nodes, found.frequent) == (3, {"n1": 1, "n2": 2}, NOON)


def test_what_is_said_of_a_group_on_one_node_holds_on_all(disk: RealDisk) -> None:
    one, two = State("n1", load(""), 2), State("n2", load(""), 2)
    files = [ErrorFiles(disk, state, disk.root) for state in (one, two)]

    def said(state: State, kind: str, at: int) -> None:
        meet(disk, state, [f"{7:016x}"])
        by = {"who": "me", "at": format_utc(at)}
        say(state.groups, f"{7:016x}", kind, by, None)

    assert fail_on(disk, one, NOON) == "new"
    assert fail_on(disk, two, NOON) == "new"  # at the same moment: nothing was written yet
    for file in files:
        file.close(NOON)
    said(one, "resolve", NOON + 10)
    files[0].close(NOON)
    assert fail_on(disk, two, NOON + 20) == "back"
    files[1].close(NOON)
    assert fail_on(disk, one, NOON + 30) == ""
    files[0].close(NOON)
    said(two, "mute", NOON + 40)
    fail_on(disk, one, NOON + 41)  # before it hears of it
    files[1].close(NOON)
    files[0].close(NOON)
    found = decode(disk.read(f"errors/{7:016x}.json", 1 << 20))
    assert (found.count, found.state) == (5, "muted")
    new = State("n3", load(""), 2)  # has never read it
    said(new, "reopen", NOON + 50)
    ErrorFiles(disk, new, disk.root).close(NOON)
    assert decode(disk.read(f"errors/{7:016x}.json", 1 << 20)).state == "open"


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_what_comes_back_is_told_once_whatever_clock_it_was_resolved_by(
    disk: RealDisk, node: str
) -> None:
    """On a node whose clock is ahead, or was."""
    states = {name: State(name, load(""), 2) for name in ("n1", "n2")}
    files = {name: ErrorFiles(disk, state, disk.root) for name, state in states.items()}
    fail_on(disk, states["n1"], NOON)
    files["n1"].close(NOON)
    meet(disk, states[node], [f"{7:016x}"])
    by = {"who": "me", "at": format_utc(NOON + 100)}
    say(states[node].groups, f"{7:016x}", "resolve", by, None)
    files[node].close(NOON)
    told = []
    for later in range(1, 4):
        told.append(fail_on(disk, states["n1"], NOON + later))
        files["n1"].close(NOON)
    assert told == ["back", "", ""]


def fail_on(disk: RealDisk, state: State, at: int) -> str:
    """One more failure of a kind on a node; why its parent hears of it."""
    meet(disk, state, [f"{7:016x}"])
    return state.groups.count({**failure(7), "node": state.node}, at, LIMITS)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{}",
        b'{"journal": "journal/n/2026-11-21.jsonl", "size": 1e9}',
        b'{"journal": "journal/n/2026-11-21.jsonl", "size": -1}',
        b'{"journal": "journal/n/2026-11-22.jsonl", "size": 0}',  # the clock was set back
    ],
)
def test_a_note_that_is_not_of_this_journal_hides_no_line(disk: RealDisk, note: bytes) -> None:
    disk.make_dir("journal/n")
    journal(disk, {**failure(1), "outcome": "error"}, NOON)
    disk.write("nodes/n.errors", note)
    assert list(told_again(disk)) == [f"{1:016x}"]


def test_what_was_done_since_is_noted_now_and_then(disk: RealDisk) -> None:
    state = State("n", load(""), 2)
    files = ErrorFiles(disk, state, disk.root)
    quiet(files, state)
    disk.make_dir("journal/n")
    disk.append(layout.journal("n", NOON), b"x" * 5000)
    state.meter.seen += 999
    assert files.due(Now(NOON, 0)) is None
    state.meter.seen += 1
    quiet(files, state)
    assert orjson.loads(disk.read("nodes/n.errors", 1 << 20))["size"] == 5000


def journal(disk: RealDisk, said: dict[str, Any], at: int) -> None:
    """A failed attempt: its record, and its line."""
    fingerprint, path = said["error"]["fingerprint"], layout.record(said["id"], 1)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, orjson.dumps(said))
    line = {"at": format_utc(at), "event": "fail", "id": said["id"], "attempt": 1, "error": fingerprint}
    disk.append(layout.journal("n", at), orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def test_what_became_frequent_just_before_a_kill_is_so_for_the_next_daemon(disk: RealDisk) -> None:
    disk.make_dir("journal/n")
    state = State("n", load("recurring_count = 4"), 2)
    for number in range(3):
        journal(disk, said := failure(7), NOON + number)
        state.groups.count(said, NOON + number, LIMITS)
    ErrorFiles(disk, state, disk.root)._write(KEPT)  # and killed after the fourth
    journal(disk, failure(7), NOON + 3)
    again = State("n", load("recurring_count = 4"), 2)
    ErrorFiles(disk, again, disk.root).load(NOON + 4)
    assert (again.groups.table[f"{7:016x}"].count, again.groups.table[f"{7:016x}"].frequent) == (
        4,
        NOON + 3,
    )


def told_again(disk: RealDisk) -> list[str]:
    """The groups that another daemon finds."""
    state = State("n", load(""), 2)
    ErrorFiles(disk, state, disk.root).load(NOON)
    return list(state.groups.table)


DAY = 86_400_000_000


def forget(disk: RealDisk, days: int) -> set[str]:
    """The names in nodes/ when so many days have passed, n and live being the nodes that serve."""
    now = time.time_ns() // 1000 + days * DAY
    for _ in oldnodes.nodes(disk, disk.root, {"n", "live"}, now):
        pass
    return {name for name in disk.names("nodes") if name[0] != "."}


def mark(until: int) -> bytes:
    return occurrences.encode({"s": occurrences.Mark("@hourly", until, None)})


def test_a_node_that_is_long_gone_is_forgotten(disk: RealDisk) -> None:
    for node in ("n", "live", "gone", "busy", "held"):
        for kind in ("lock", "json", "usage", "shape", "census", "errors", "metrics", "begun"):
            disk.write(f"nodes/{node}.{kind}", b"{}" if kind == "json" else b"")
        disk.make_dir(f"running/{node}")
        disk.make_dir(f"journal/{node}")
    disk.write("nodes/pauses.json", b"[]")
    disk.write("running/busy/.x.task", b"")
    disk.write("nodes/n.recurring", mark(NOON))
    disk.write("nodes/gone.recurring", mark(NOON - 1))
    held = locks.take(f"{disk.root}/nodes/held.lock")
    before = forget(disk, 6)
    assert "gone.json" in before
    assert before - forget(disk, 8) == {name for name in before if name.startswith("gone.")}
    assert set(disk.names("running")) == set(disk.names("journal")) == {"n", "live", "busy", "held"}
    locks.give(held)


def test_the_journal_of_a_node_that_is_forgotten_goes_with_its_last_day(disk: RealDisk) -> None:
    for node in ("n", "gone"):
        disk.write(f"nodes/{node}.lock", b"")
        disk.make_dir(f"journal/{node}")
        disk.append(f"journal/{node}/2026-01-01.jsonl", b"{}\n")
    assert forget(disk, 8) == {"n.lock"}
    assert set(disk.names("journal")) == {"n", "gone"}
    for _ in oldfiles.journals(disk, disk.root, load('keep_journal = "1d"'), NOON + DAY * 999):
        pass
    assert disk.names("journal") == ["n"]


def test_what_is_no_file_in_the_place_of_a_journal_is_not_packed_and_keeps_no_other(
    disk: RealDisk,
) -> None:
    disk.make_dir("journal/n")
    os.mkfifo(f"{disk.root}/journal/n/2026-01-01.jsonl")
    os.mkfifo(f"{disk.root}/journal/n/2026-01-02.jsonl.gz")
    disk.append("journal/n/2026-01-02.jsonl", b"{}\n")
    for _ in oldfiles.journals(disk, disk.root, load(""), parse_utc("2026-01-20T00:00:00Z")):
        pass
    found = {"2026-01-01.jsonl", "2026-01-02.jsonl.gz", "2026-01-02.2.jsonl.gz"}
    assert set(disk.names("journal/n")) == found


def test_how_far_a_schedule_has_come_outlives_the_node_that_knows(disk: RealDisk) -> None:
    disk.write("nodes/gone.lock", b"")
    disk.write("nodes/gone.recurring", mark(NOON))
    disk.write("nodes/n.recurring", mark(NOON - 1))
    assert forget(disk, 8) == {"gone.recurring", "n.recurring"}


def test_who_waits_for_a_lock_that_is_removed_takes_the_one_made_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lock")
    first = locks.take(path)
    waits: list[int] = []
    thread = threading.Thread(target=lambda: waits.append(locks.take(path, 30)))
    thread.start()
    until(lambda: _opened(path) == 2, "it waits")
    os.unlink(path)
    locks.give(first)
    thread.join()
    with pytest.raises(TimeoutError):
        locks.take(path)
    locks.give(waits[0])


def _opened(path: str) -> int:
    return sum(os.path.realpath(f"/proc/self/fd/{fd}") == path for fd in os.listdir("/proc/self/fd"))


ALERTS = '[alerts]\nexec = ["/bin/true"]\nevents = ["failed", "recurring-error"]\nevery = "10m"\n'
SECOND = 1_000_000


def alerted(state: State, wall: int, event: str = "failed", why: str = "", number: int = 1) -> list[int]:
    """How many each alert says were held back, if an event with this error happens."""
    content = {**failure(number), "event": event, "group": {"why": why}}
    message = Message(event, "default", wall, content["id"], "t", content)
    return [
        move.body.args["held_back"] for move in alerts.raised(state, [Tell(message)], Now(wall, wall))
    ]


def started(disk: RealDisk, wall: int) -> tuple[State, ErrorFiles]:
    state = State("n", load(ALERTS), 2)
    files = ErrorFiles(disk, state, disk.root)
    files.load(wall)
    return state, files


def test_a_recurring_error_is_alerted_for_its_fingerprint_and_why() -> None:
    state = State("n", load(ALERTS), 2)
    rows = [("new", 1), ("frequent", 1), ("new", 2), ("new", 1), ("new", 2)]
    found = [alerted(state, NOON, "recurring-error", why, number) for why, number in rows]
    assert found == [[0], [0], [0], [], []]
    assert alerted(state, NOON + 600 * SECOND, "recurring-error", "new", 1) == [1]


def test_what_was_alerted_last_is_known_after_a_crash(disk: RealDisk) -> None:
    state, files = started(disk, NOON)
    assert alerted(state, NOON) == [0]
    state.groups.count(failure(1), NOON, LIMITS)
    quiet(files, state)
    for n in (1, 2):
        state, files = started(disk, NOON + n * SECOND)
        assert alerted(state, NOON + n * SECOND) == []
        quiet(files, state)
        assert not state.alerts_changed
    state, files = started(disk, NOON + 600 * SECOND)
    assert alerted(state, NOON + 600 * SECOND) == [2]


@pytest.mark.parametrize("full", [False, True])
def test_the_last_alerts_are_kept_where_there_is_room(disk: RealDisk, *, full: bool) -> None:
    state = State("n", load(ALERTS), 2)
    assert alerted(state, NOON) == [0]
    files = ErrorFiles(Full(disk) if full else disk, state, disk.root)
    quiet(files, state)
    assert state.alerts_changed is full


def test_an_alert_of_a_time_to_come_holds_nothing_back(disk: RealDisk) -> None:
    state, files = started(disk, NOON)
    assert alerted(state, NOON) == [0]
    files.close(NOON)
    state, files = started(disk, NOON - 60 * SECOND)
    assert alerted(state, NOON - 60 * SECOND) == [0]
    assert alerted(state, NOON) == []


@pytest.mark.parametrize("odd", [b"", b"[]", b"7", b'{"alerts": 7}', b'{"alerts": [[1, 2, 3], ["failed", "t"]]}',
                                 b'{"alerts": [[["failed", "t"], "x", null]]}'])  # fmt: skip
def test_a_damaged_note_is_as_none(disk: RealDisk, odd: bytes) -> None:
    disk.write(layout.told("n"), odd)
    assert alerted(started(disk, NOON)[0], NOON) == [0]


def test_alerts_noted_ahead_of_the_groups_hide_no_failure(disk: RealDisk) -> None:
    state, files = started(disk, NOON)
    disk.make_dir("journal/n")
    for number in range(40):  # more than are written in one round
        said = {**failure(number), "outcome": "error"}
        state.groups.count(said, NOON + number, LIMITS)
        journal(disk, said, NOON + number)
    assert alerted(state, NOON) == [0]
    files.step(Now(NOON, 0))
    assert state.groups.dirty
    again, _ = started(disk, NOON + SECOND)
    assert again.alerted == state.alerted
    assert len(again.groups.table) == 40
