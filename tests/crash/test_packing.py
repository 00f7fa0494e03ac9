"""Old tasks go into packs, or go; cut off at any step, each is in one place, and known by its id."""

from __future__ import annotations

import errno
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from msgspec.structs import replace

from spool import fsck, journal, keys, layout, look, packs, quarantine, records, waiting
from spool.disk import DiskFull, RealDisk
from spool.errors import NoSuchTask
from spool.init import init
from spool.names import DAY_US, date_of, id_from
from spool.owncopy import Task, decode_task, encode_task, first_entry
from spool.place import WINDOW, Rival
from spool.prune.planned import planned
from spool.settings import load
from spool.times import format_utc, parse_utc
from spool.worker.kept import Kept
from spoold.core.state import State
from spoold.core.values import Now
from spoold.effects.packer import EVERY, Packer
from spoold.effects.results import with_results

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = parse_utc("2026-11-21T12:00:00Z")
TOML = """
pack_after = "2d"
keep_done = "10d"
keep_failed = "20d"
keep_ids = "30d"
[handlers."brief"]
exec = ["true"]
keep = "3d"
[handlers."*"]
exec = ["true"]
"""
VERBS = ("write", "append", "move", "link", "remove", "make_dir", "remove_dir", "sync", "sync_dirs")


class Cut(Exception):
    """The power went here."""


class Cutting:
    """A disk that fails for good before its n-th change."""

    def __init__(self, disk: RealDisk, at: int) -> None:
        self.disk = disk
        self.left = at

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.disk, name)
        if name not in VERBS:
            return real

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Cut(name)
            return real(*args)

        return call


def ended(
    disk: RealDisk, number: int, state: str, days: int, task: str = "mail.send", **more: Any
) -> str:
    """A task that ended so many days ago with one attempt and a log; its id."""
    at = NOON - days * DAY_US
    body = Task(
        id=id_from(at, bytes([number] * 10)), task=task, args={"n": number}, at=at, submitted_at=at, uid=0,
        digest=f"{number:032x}", **more,
    )  # fmt: skip
    entry = first_entry(body)
    assert body.id is not None
    path = layout.ended(state, at, replace(entry, fails=int(state == "failed")))
    for target in (path, layout.record(body.id, 1), layout.log(body.id, 1), layout.own_copy(body.id)):
        disk.make_dir(layout.parent_of(target))
    disk.write(path, encode_task(body))
    disk.link(path, layout.own_copy(body.id))
    error = {"type": "x", "message": "m", "trace": None, "fingerprint": f"{number:016x}"}
    how = {"outcome": "error", "error": error} if state == "failed" else {"outcome": "ok"}
    record = records.record(
        event=state, task=body, entry=entry, node="n", parent="default", now=at, started=at,
        log=layout.log(body.id, 1), **how,
    )  # fmt: skip
    disk.write(layout.record(body.id, 1), records.encode({**record, "entry": path}))
    disk.write(layout.log(body.id, 1), b"printed\n")
    return body.id


def passed(disk: Any, root: str, now: int = NOON, toml: str = TOML) -> None:
    """One whole pass of a packer that has just started."""
    packer = Packer(disk, State("n", load(toml), 2), root)
    packer.resume()
    one_pass(packer, Now(now, 0))


def one_pass(packer: Packer, now: Now) -> None:
    """All that one pass does from here on."""
    while (wait := packer.due(now) or 0) != EVERY:
        now = Now(now.wall + wait, now.mono + wait)
        packer.step(now)


def cut_off(disk: RealDisk, point: int, toml: str = TOML) -> bool:
    """A pass that ends before its n-th change; False where it has none."""
    try:
        passed(Cutting(disk, point), disk.root, toml=toml)
    except Cut:
        return True
    return False


def points_of(place: Path, at: Callable[[Path, int], bool]) -> int:
    """At how many points something was looked at, each in a spool of its own: till there is none."""
    points = 0
    while at(place / f"at{points}", points):
        points += 1
    return points


def lives(disk: RealDisk, task_id: str) -> bool:
    return look.find(disk, task_id) is not None


def times_packed(disk: RealDisk, task_id: str) -> int:
    return sum(one.task.id == task_id for path in packs.packs(disk) for one in packs.read(disk, path))


def test_what_is_old_is_packed_what_is_too_old_goes_the_rest_stays(disk: RealDisk) -> None:
    fresh = ended(disk, 1, "done", 1)
    old = ended(disk, 2, "done", 5)
    failed = ended(disk, 3, "failed", 15)
    gone = ended(disk, 4, "done", 15)
    brief = ended(disk, 5, "done", 5, "brief")
    body = disk.read(layout.own_copy(old), 1 << 20)
    record = look.record(disk, old, 1)
    passed(disk, disk.root)
    assert lives(disk, fresh)
    assert [times_packed(disk, i) for i in (fresh, old, failed, gone, brief)] == [0, 1, 1, 0, 0]
    assert not any(lives(disk, i) for i in (old, failed, gone, brief))
    assert all(packs.known(disk, i) for i in (old, failed, gone, brief))
    assert packs.known(disk, gone) == f"{4:032x}"
    found = packs.find(disk, old)
    assert found is not None
    assert (found.body, found.attempts) == (orjson.loads(body), (record,))
    assert (found.state, found.entry.task) == ("done", "mail.send")
    packed = packs.find(disk, failed)
    assert packed is not None
    assert packed.error == f"{3:016x}"
    assert disk.info(layout.log(gone, 1)) is None
    assert disk.info(layout.log(old, 1)) is not None
    assert [f for f in fsck.check(disk) if f.grave] == []
    assert not [d for d in look.names(disk, "done") if d != date_of(NOON - DAY_US)]


@pytest.mark.parametrize("days", [0, 5, 15])
@pytest.mark.parametrize("files", [False, True])
def test_what_keeps_its_key_is_kept_as_long(disk: RealDisk, days: int, *, files: bool) -> None:
    span = 20 * DAY_US + 1
    task_id = ended(disk, 1, "done", days, key="k", key_for=span)
    ended(disk, 2, "cancelled", days, "brief", key="k", key_for=span, duplicate_of=task_id)
    if files:
        disk.make_dir(layout.files(task_id))
    end = NOON - days * DAY_US
    claim = keys.Claim("", task_id, "n", span, 1, shared=False)
    for day in range(days, 24):
        now = end + day * DAY_US
        passed(disk, disk.root, now)
        assert keys.rival(disk, claim, now) == (Rival(task_id, WINDOW) if now < end + span else None), day
        assert lives(disk, task_id) + times_packed(disk, task_id) == (day < 22 - files)
        assert [f for f in fsck.check(disk) if f.grave] == []


@pytest.mark.parametrize("limit", ["keep_count = 0", 'keep_done = { age = "10d", count = 0 }'])
def test_a_limit_takes_what_keeps_its_key_too(disk: RealDisk, limit: str) -> None:
    task_id = ended(disk, 1, "done", 5, key="k", key_for=20 * DAY_US)
    passed(disk, disk.root, toml=limit + TOML.replace('keep_done = "10d"', ""))
    assert not lives(disk, task_id)
    assert times_packed(disk, task_id) == 0


@pytest.mark.parametrize("days", [5, 15], ids=["packed", "never packed"])
def test_what_others_wait_for_is_kept_as_long_as_they_wait(disk: RealDisk, days: int) -> None:
    """Nobody would know else how it ended, and what waits would wait for ever."""
    task_id = ended(disk, 1, "done", days)
    task = replace(decode_task(disk.read(layout.own_copy(task_id), 1 << 20)), id=id_from(NOON, b"w" * 10))
    waits = layout.held(replace(first_entry(task), why="after"))
    disk.make_dir(layout.IDS + "/" + date_of(NOON))
    disk.write(layout.own_copy(task.id or ""), encode_task(replace(task, after=(task_id,))))
    disk.link(layout.own_copy(task.id or ""), waits)
    for day in (0, 12, 40):
        passed(disk, disk.root, NOON + day * DAY_US)
        assert waiting.end_of(disk, task_id) is not None, day
    disk.remove(waits)
    passed(disk, disk.root, NOON + 40 * DAY_US)
    assert waiting.end_of(disk, task_id) is None


@pytest.mark.parametrize("at", [None, *range(12)])
def test_files_are_never_packed_and_go_before_their_task(disk: RealDisk, at: int | None) -> None:
    kept, gone = ended(disk, 1, "done", 5), ended(disk, 2, "done", 15)
    for task_id in (kept, gone):
        disk.make_dir(f"{layout.files(task_id)}/deep")
        disk.write(f"{layout.files(task_id)}/deep/a", b"x")
    if at is not None:
        with suppress(Cut):
            passed(Cutting(disk, at), disk.root)
    passed(disk, disk.root)
    assert (lives(disk, kept), lives(disk, gone)) == (True, False)
    assert look.sizes(disk, layout.files(kept)) == {"deep/a": 1}
    assert disk.info(layout.files(gone)) is None
    assert [f for f in fsck.check(disk) if f.grave] == []


@pytest.mark.parametrize(("limit", "count"), [(40_000, 1), (2000, 0)])
def test_no_pack_holds_more_than_is_read_of_it(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch, limit: int, count: int
) -> None:
    ids = [ended(disk, number, "done", 5) for number in range(60)]
    monkeypatch.setattr(packs, "LIMIT", limit)
    passed(disk, disk.root)
    assert [times_packed(disk, i) for i in ids] == [count] * 60
    assert [lives(disk, i) for i in ids] == [not count] * 60


def test_what_a_task_has_kept_goes_after_it(disk: RealDisk) -> None:
    fresh, packed, gone = (ended(disk, n, "done", days) for n, days in enumerate((1, 5, 15)))
    for task_id in (fresh, packed, gone):
        Kept(disk.root).write(task_id, "far")
        disk.write(f"{layout.parent_of(layout.checkpoint(task_id))}/.{task_id}.77", b"cut off")
    passed(disk, disk.root)
    day = date_of(NOON - DAY_US)
    assert look.names(disk, layout.CHECKPOINTS) == [day]
    assert look.names(disk, f"{layout.CHECKPOINTS}/{day}") == [f".{fresh}.77", f"{fresh}.json"]


@pytest.mark.parametrize(("days", "packed"), [(5, True), (15, False)])
def test_who_waits_hears_of_what_was_packed_or_went_between_two_looks(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch, days: int, *, packed: bool
) -> None:
    task_id = ended(disk, 1, "done", days)
    place = look.find(disk, task_id)
    assert place is not None
    runs = layout.running("n", place.entry)
    disk.make_dir(layout.parent_of(runs))
    disk.move(place.path, runs)

    def wait(*_: object) -> None:
        disk.move(runs, place.path)
        passed(disk, disk.root)

    monkeypatch.setattr(waiting.Watch, "wait", wait)
    with nullcontext() if packed else pytest.raises(NoSuchTask):
        assert waiting.ended(disk, disk.root, task_id, 5)["event"] == "done"


def test_who_waits_takes_no_task_that_is_being_packed_for_damaged(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = ended(disk, 1, "done", 5)
    place = look.find(disk, task_id)
    assert place is not None
    body = disk.read(place.path, 1 << 20)
    passed(disk, disk.root)
    for path in (layout.own_copy(task_id), place.path):  # its record goes first
        disk.make_dir(layout.parent_of(path))
        disk.write(path, body)
    found = [None, packs.find(disk, task_id)]  # nor was it packed when that was asked first
    monkeypatch.setattr(packs, "find", lambda *_: found.pop(0))
    assert waiting.ended(disk, disk.root, task_id, 5)["event"] == "done"


def test_a_record_that_is_damaged_is_kept_and_its_task_is_packed_without_it(
    disk: RealDisk, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = ended(disk, 1, "done", 5)
    path = layout.record(task_id, 1)
    disk.remove(path)
    disk.write(path, b"{")
    passed(disk, disk.root)
    assert times_packed(disk, task_id) == 1
    assert disk.info(path) is None
    assert path in caplog.text
    assert disk.read(quarantine.of(disk, task_id) or "", 9) == b"{"
    assert waiting.how_ended(disk, task_id) == "done"  # for who waits for it
    (packed,) = packs.read(disk, next(packs.packs(disk)))
    waits = replace(packed.place(), task=replace(packed.task, args={"$result": task_id}))
    assert "is lost" in with_results(disk, waits, 9999).lacks


def test_a_list_of_ids_that_was_cut_off_is_read_as_far_as_it_goes(disk: RealDisk) -> None:
    old = ended(disk, 1, "done", 5)
    passed(disk, disk.root)
    (path,) = packs.packs(disk)
    listed = path.replace(packs.PACK, packs.IDS)
    data = disk.read(listed, 1 << 20)
    disk.remove(listed)
    disk.write(listed, data[:-5])
    assert packs.known(disk, old) is None
    assert packs.find(disk, old) is None


def test_settings_that_come_in_the_middle_of_a_pass_hold_at_once(disk: RealDisk) -> None:
    """Somebody who sees what a limit takes stops it."""
    for number in range(4, 8):
        ended(disk, number, "failed", number)
    state = State(
        "n", load('keep_failed = { age = "20d", count = 0 }' + TOML.replace("keep_failed", "#")), 2
    )
    packer = Packer(disk, state, disk.root)
    mono = 0
    while not packer.counts["dropped"]:
        mono += 1_000_000
        packer.step(Now(NOON, mono))
    state.settings = load(TOML)
    one_pass(packer, Now(NOON, mono))
    assert packer.counts == {"packed": 3, "dropped": 0, "beyond": 0}


@pytest.mark.parametrize("why", ["settings", "lead"])
def test_a_pass_that_is_begun_anew_goes_by_no_clock_that_is_doubted(disk: RealDisk, why: str) -> None:
    """Somebody has asked for it, before the clock leapt a year ahead."""
    for number in range(4):
        ended(disk, number, "done", 1)
    state = State("n", load(TOML), 2)
    packer = Packer(disk, state, disk.root)
    state.prune_asked = NOON
    for now in (Now(NOON, 0), leapt := Now(NOON + 365 * DAY_US, 1)):
        state.trust.look(now)
        packer.step(now)
    if why == "settings":
        state.settings = load(TOML)
    else:
        state.peers = frozenset({"a", "n"})
        packer.step(leapt)
        state.peers = frozenset({"n"})
        packer.step(leapt)
    one_pass(packer, leapt)
    assert len(list(disk.names("done/2026-11-20"))) == 4


def test_a_pass_is_done_as_asked_where_another_node_led_meanwhile(disk: RealDisk) -> None:
    ended(disk, 1, "done", 1)
    state = State("n", load(TOML), 2)
    packer = Packer(disk, state, disk.root)
    state.trust.look(Now(NOON, 0))
    state.trust.look(now := Now(NOON + 20 * DAY_US, 1))
    state.prune_asked = now.wall  # it is that late, says who asks
    for others in (), ("a",), ():
        state.peers = frozenset({*others, "n"})
        packer.step(now)
    one_pass(packer, now)
    assert disk.info("done/2026-11-20") is None


def test_the_pass_after_one_that_was_asked_for_has_a_time_of_its_own(disk: RealDisk) -> None:
    ended(disk, 1, "done", 1)
    state = State("n", load(TOML), 2)
    packer = Packer(disk, state, disk.root)
    state.prune_asked = NOON
    for days in (0, 20):
        assert list(disk.names("done/2026-11-20"))
        one_pass(packer, Now(NOON + days * DAY_US, days * DAY_US))
    assert disk.info("done/2026-11-20") is None


def test_a_second_pass_changes_nothing(disk: RealDisk) -> None:
    for number in range(5):
        ended(disk, number, "done", 5)
    passed(disk, disk.root)
    before = {path: disk.read(path, 1 << 20) for path in packs.packs(disk)}
    passed(disk, disk.root)
    assert {path: disk.read(path, 1 << 20) for path in packs.packs(disk)} == before


def test_packs_expire_and_their_ids_are_known_a_while_longer(disk: RealDisk) -> None:
    old = ended(disk, 1, "done", 5)
    passed(disk, disk.root)
    passed(disk, disk.root, NOON + 10 * DAY_US)
    assert times_packed(disk, old) == 0
    assert packs.known(disk, old) == f"{1:032x}"
    passed(disk, disk.root, NOON + 30 * DAY_US)
    assert packs.known(disk, old) is None
    assert look.names(disk, layout.PACKED) == []


@pytest.mark.parametrize("limit", ["keep_count = 2", "keep_bytes = 17000"])
def test_the_oldest_goes_first_where_there_is_too_much(disk: RealDisk, limit: str) -> None:
    ids = [ended(disk, number, "failed", number) for number in range(4, 9)]
    passed(disk, disk.root, toml=limit + TOML)
    assert [times_packed(disk, i) for i in ids] == [1, 1, 0, 0, 0]
    assert all(packs.known(disk, i) for i in ids)


def test_of_a_day_no_more_goes_than_is_too_much(disk: RealDisk, caplog: pytest.LogCaptureFixture) -> None:
    ids = [ended(disk, number, "failed", 5) for number in range(150)]
    passed(disk, disk.root)
    one, two = packs.packs(disk)
    first = [row.task.id for row in packs.read(disk, one)]
    caplog.set_level("INFO")
    passed(disk, disk.root, toml="keep_count = 100" + TOML)
    assert list(packs.packs(disk)) == [two]
    assert "1 packs, logs" in caplog.text
    assert all(packs.known(disk, i) for i in ids)
    assert all(disk.info(layout.log(i, 1)) for i in first), "they are kept by keep_logs"


def test_what_may_not_go_drives_out_nothing_else(disk: RealDisk) -> None:
    old, today = ended(disk, 1, "failed", 5), ended(disk, 2, "failed", 0)
    disk.append(layout.log(today, 1), bytes(1 << 20))
    passed(disk, disk.root, toml='keep_bytes = "512KiB"' + TOML)
    passed(disk, disk.root, toml='keep_bytes = "512KiB"' + TOML)
    assert times_packed(disk, old) == 1
    assert all(disk.info(layout.log(i, 1)) for i in (old, today))


THIN = TOML.replace('[handlers."*"]', 'keep = { age = "20d", count = 1 }\n[handlers."*"]')
THIN = THIN.replace('keep = "3d"\n', "").replace(
    'keep_failed = "20d"', 'keep_failed = { age = "20d", count = 4 }'
)


class Telling:
    """A disk that tells how many files were removed, by directory."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk
        self.removed: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def remove(self, path: str) -> None:
        self.disk.remove(path)
        self.removed[layout.parent_of(path)] += 1


MORE = 'keep_logs = "6d"\nkeep_rejected = "3d"\nkeep_journal = "12d"\n'


@pytest.mark.parametrize(
    "toml",
    [
        TOML,
        THIN,
        *(f"{limit}\n{TOML}" for limit in ("keep_count = 2", "keep_bytes = 30000", "keep_bytes = 0")),
    ],
)
def test_what_is_planned_is_what_is_done(disk: RealDisk, toml: str) -> None:
    for number in range(4, 9):
        ended(disk, number, "failed", number)
    passed(disk, disk.root, NOON - 2 * DAY_US)
    for number in range(20):
        task_id = ended(disk, 100 + number, "failed" if number % 3 else "done", number)
        Kept(disk.root).write(task_id, "far")
        if number % 4 == 0:
            disk.make_dir(layout.files(task_id))
        date = date_of(NOON - number * DAY_US)
        for folder in ("journal/n", f"{layout.REJECTED}/{date}"):
            disk.make_dir(folder)
            disk.write(f"{folder}/{date}.jsonl", f"{number}\n".encode())
    ended(disk, 130, "done", 15, key="k", key_for=20 * DAY_US)
    thin = 0
    for later in range(0, 36, 6):
        now = NOON + later * DAY_US
        before = sorted(path for path in Path(disk.root).rglob("*"))
        rows = planned(disk, disk.root, load(MORE + toml), now)
        assert sorted(path for path in Path(disk.root).rglob("*")) == before
        told = Telling(disk)
        passed(told, disk.root, now, MORE + toml)
        of: Counter[str] = Counter()
        for (what, folder), n in rows.items():
            of[folder] += n * (1 + (what == "thin"))  # with its list of ids
        shown = (*layout.ENDED, "packed", "logs", "journal", layout.REJECTED, layout.CHECKPOINTS)
        done = {f: n for f, n in told.removed.items() if "/" in f and f.split("/")[0] in shown}
        assert dict(of) == done, later
        assert of
        thin += sum(n for (what, _), n in rows.items() if what == "thin")
    assert (thin > 0) == (toml == THIN)


def test_a_handler_and_a_state_keep_so_many_packed_or_not(disk: RealDisk) -> None:
    brief = [ended(disk, n, "done", 9 - n, "brief") for n in range(1, 4)]
    failed = [ended(disk, n, "failed", n) for n in range(4, 10)]
    today = [ended(disk, n, "done", 0, "brief") for n in range(10, 13)]
    passed(disk, disk.root)
    assert all(times_packed(disk, i) for i in failed)
    passed(disk, disk.root, toml=THIN)
    assert [times_packed(disk, i) for i in failed] == [1, 1, 1, 1, 0, 0]
    assert [times_packed(disk, i) for i in brief] == [0, 0, 0], "they were too old for a limit of 3 d"
    assert all(lives(disk, i) for i in today), "the day is not over"
    assert all(packs.known(disk, i) for i in (*failed, *brief))
    assert disk.info(layout.log(failed[5], 1)) is None
    assert disk.info(layout.log(failed[0], 1)) is not None
    passed(disk, disk.root, NOON + DAY_US, toml=THIN)
    assert sum(lives(disk, i) for i in today) == 1
    assert [f for f in fsck.check(disk) if f.grave] == []


def test_what_is_not_packed_goes_too_when_it_is_too_much(disk: RealDisk) -> None:
    ids = [ended(disk, n, "done", 1, "brief") for n in range(5)]
    others = [ended(disk, n, "done", 1) for n in range(5, 8)]
    passed(disk, disk.root, toml=THIN)
    assert sum(lives(disk, i) for i in ids) == 1
    assert all(lives(disk, i) for i in others)
    assert all(packs.known(disk, i) for i in ids if not lives(disk, i))
    size = sum(info.size for i in others if (info := disk.info(layout.own_copy(i))))
    limit = TOML.replace('keep_done = "10d"', "keep_done = { bytes = 20000 }")
    assert 0 < size < 20_000  # three files each, of a block each
    passed(disk, disk.root, toml=limit)
    assert sum(lives(disk, i) for i in (*ids, *others)) == 1


def test_the_files_of_a_task_count_for_the_bytes_of_its_state(disk: RealDisk) -> None:
    ids = [ended(disk, n, "done", days) for n, days in enumerate((5, 4, 3))]
    for task_id in ids:
        disk.make_dir(f"{layout.files(task_id)}/deep")
        disk.write(f"{layout.files(task_id)}/deep/a", bytes(100_000))
    passed(disk, disk.root, toml=TOML.replace('keep_done = "10d"', "keep_done = { bytes = 250000 }"))
    assert [lives(disk, task_id) for task_id in ids] == [False, True, True]
    assert disk.info(layout.files(ids[0])) is None


def thinned_at(place: Path, point: int) -> bool:
    """The same as `cut_at`, of a pass that makes packs anew."""
    init(str(place))
    disk = RealDisk(str(place))
    ids = [ended(disk, n, "failed", 9) for n in range(6)]
    passed(disk, disk.root)
    if not cut_off(disk, point, toml=THIN):
        return False
    assert all(packs.known(disk, i) and not lives(disk, i) for i in ids), point
    Packer(disk, State("n", load(THIN), 2), disk.root).resume()
    assert sorted(times_packed(disk, i) for i in ids) in ([0, 0, 1, 1, 1, 1], [1] * 6), point
    assert [f for f in fsck.check(disk) if f.grave] == []
    passed(disk, disk.root, toml=THIN)
    assert sorted(times_packed(disk, i) for i in ids) == [0, 0, 1, 1, 1, 1]
    assert all(packs.known(disk, i) for i in ids)
    assert [f for f in fsck.check(disk) if f.grave] == []
    disk.close()
    return True


def test_a_pack_that_is_made_anew_loses_nothing_wherever_it_is_cut_off(tmp_path: Path) -> None:
    assert points_of(tmp_path, thinned_at) > 15


def cut_at(place: Path, point: int) -> bool:
    """Cut a pass off before its n-th change, look, start again, look. False where there is no n-th."""
    init(str(place))
    disk = RealDisk(str(place))
    ids = [ended(disk, n, "failed" if n % 2 else "done", 5 + 4 * (n % 3)) for n in range(6)]
    if not cut_off(disk, point):
        return False
    for task_id in ids:  # as it is, and as another daemon makes it
        assert lives(disk, task_id) or packs.known(disk, task_id), point
        assert times_packed(disk, task_id) <= 1
    kept = [n for n in range(6) if n % 2 or 5 + 4 * (n % 3) < 10]
    for task_id in [ids[n] for n in kept]:
        claim = keys.Claim("", task_id, "n", 30 * DAY_US, 1, shared=False)
        assert waiting.end_of(disk, task_id) is not None, point
        assert keys.rival(disk, claim, NOON) == Rival(task_id, WINDOW), point
    Packer(disk, State("n", load(TOML), 2), disk.root).resume()
    for task_id in ids:
        packed = packs.known(disk, task_id) is not None
        assert lives(disk, task_id) != packed, point
        assert (disk.info(layout.own_copy(task_id)) is None) == packed
        assert (disk.info(layout.record(task_id, 1)) is None) == packed
    assert [f for f in fsck.check(disk) if f.grave] == []
    passed(disk, disk.root)
    assert [n for n, task_id in enumerate(ids) if times_packed(disk, task_id) == 1] == kept
    assert not any(lives(disk, task_id) for task_id in ids)
    disk.close()
    return True


def test_cut_off_anywhere_each_task_is_in_one_place_and_known(tmp_path: Path) -> None:
    assert points_of(tmp_path, cut_at) > 50


@pytest.mark.parametrize("days", [5, 4000])
def test_a_directory_named_as_a_day_of_the_journal_holds_nothing_up(disk: RealDisk, days: int) -> None:
    disk.make_dir(f"{layout.JOURNAL}/n/{date_of(NOON - days * DAY_US)}.jsonl")
    packed = ended(disk, 1, "done", 5)
    passed(disk, disk.root, toml=TOML.replace("[handlers", "keep_count = 0\n[handlers", 1))
    assert times_packed(disk, packed) == 0  # what comes behind the journals has had its turn
    planned(disk, disk.root, load(TOML), NOON)


def test_a_day_of_the_journal_is_packed_whole_wherever_it_is_cut_off(disk: RealDisk) -> None:
    lines = [{"at": format_utc(NOON - 5 * DAY_US + n), "event": "claim", "n": n} for n in range(20_000)]
    path = f"{layout.JOURNAL}/n/{date_of(NOON - 5 * DAY_US)}.jsonl"
    disk.make_dir(layout.parent_of(path))
    disk.write(path, b"".join(orjson.dumps(line) + b"\n" for line in lines))
    points = 0
    while True:
        try:
            passed(Cutting(disk, points), disk.root)
            break
        except Cut:
            points += 1
        found = list(journal.read(disk.root, journal.Filter()))
        assert found[: len(lines)] == lines
    assert points > 5
    assert disk.info(path) is None
    assert list(journal.read(disk.root, journal.Filter())) == lines
    disk.write(path, orjson.dumps(lines[0]) + b"\n")  # a clock was set back five days
    passed(disk, disk.root)
    assert list(journal.read(disk.root, journal.Filter())) == [*lines, lines[0]]
    again = [{**lines[1], "n": 7}, {**lines[0], "n": 8}]
    for line in again:  # and again: as long as what is packed
        disk.write(path, orjson.dumps(line) + b"\n")
        passed(disk, disk.root)
    assert list(journal.read(disk.root, journal.Filter())) == [*lines, lines[0], *again]
    passed(disk, disk.root, NOON + 100 * DAY_US)
    assert list(journal.read(disk.root, journal.Filter())) == []


def taken_over_at(place: Path, point: int) -> bool:
    """The same as `cut_at`; another node takes over, and is asked for a pass at once."""
    init(str(place))
    disk = RealDisk(str(place))
    ids = [ended(disk, n, "failed", 5) for n in range(6)]
    if not cut_off(disk, point):
        return False
    state = State("n", load(TOML), 2)
    state.peers = frozenset({"n", "m", "l"})
    assert not state.leads
    packer, mono = Packer(disk, state, disk.root), 1
    packer.step(Now(NOON, mono))
    state.peers, state.prune_asked = frozenset({"n"}), NOON
    for _ in range(300):
        mono += EVERY // 100
        packer.step(Now(NOON, mono))
    assert [times_packed(disk, task_id) for task_id in ids] == [1] * 6, point
    assert not any(lives(disk, task_id) for task_id in ids)
    disk.close()
    return True


def test_a_pass_that_is_asked_for_goes_on_with_what_the_one_before_has_promised(tmp_path: Path) -> None:
    assert points_of(tmp_path, taken_over_at) > 15


def test_a_promise_waits_where_the_disk_is_full(disk: RealDisk) -> None:
    packer = Packer(Full(disk), State("n", load(TOML), 2), disk.root)  # type: ignore[arg-type]
    packer.step(Now(NOON, 1))
    packer.disk = disk
    packer.step(Now(NOON, 1 + EVERY))
    assert packer.resumed


@pytest.mark.parametrize(
    "data", [b"", b'{"moves":[', bytes(600), b"[]", b"null", b"{}", b'{"moves":[["a"]],"remove":[]}']
)
def test_a_damaged_promise_is_put_aside_and_packing_goes_on(disk: RealDisk, data: bytes) -> None:
    old = ended(disk, 1, "done", 5)
    disk.make_dir(layout.PACKED)
    disk.write("packed/packing.json", data)
    passed(disk, disk.root)
    assert times_packed(disk, old) == 1
    assert disk.read(f"{layout.CORRUPT}/packed_packing.json", 1000) == data
    assert b"packing.json" in disk.read(f"{layout.CORRUPT}/packed_packing.json.reason.json", 1000)


class Full:
    """No directory can be made."""

    def __init__(self, disk: RealDisk) -> None:
        self.disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def make_dir(self, path: str) -> None:
        raise DiskFull(errno.ENOSPC, "full", path)


def retried(disk: RealDisk, task_id: str) -> bool:
    """What another node does meanwhile, where it still can."""
    place = look.find(disk, task_id)
    if place is None or place.state != "failed":
        return False
    target = layout.pending(replace(place.entry, fails=0, interrupted=1, time=NOON))
    disk.make_dir(layout.parent_of(target))
    disk.move(place.path, target)
    return True


class Retrying(Cutting):
    """A disk on which another node retries a task before the n-th change; `cut`: and the power goes."""

    def __init__(self, disk: RealDisk, at: int, task_id: str, *, cut: bool) -> None:
        super().__init__(disk, at)
        self.task_id = task_id
        self.cut = cut
        self.won: bool | None = None

    def __getattr__(self, name: str) -> Any:
        if name in VERBS:
            if self.left == 0:
                self.won = retried(self.disk, self.task_id)
            self.left += 0 if self.left < 0 else -1
            if self.won is not None and self.cut:
                raise Cut(name)
        return getattr(self.disk, name)


def retried_at(place: Path, point: int, *, cut: bool) -> bool:
    init(str(place))
    disk = RealDisk(str(place))
    _, task_id, _ = (ended(disk, n, "failed", 5) for n in range(3))
    other = Retrying(disk, point, task_id, cut=cut)
    with suppress(Cut):
        passed(other, disk.root)
    if other.won is None:
        return False
    Packer(disk, State("n", load(TOML), 2), disk.root).resume()
    passed(disk, disk.root)
    own = disk.info(layout.own_copy(task_id))
    if other.won:
        found = look.find(disk, task_id)
        assert found is not None, point
        assert (found.state, found.last is not None, own is not None) == ("pending", True, True)
        assert packs.find(disk, task_id) is None, "it has not ended"
        target = layout.ended("done", NOON, found.entry)
        disk.make_dir(layout.parent_of(target))
        disk.move(found.path, target)
        passed(disk, disk.root, NOON + 5 * DAY_US)
    packed = packs.find(disk, task_id)
    assert packed is not None
    assert packed.state == ("done" if other.won else "failed")
    assert [f for f in fsck.check(disk) if f.grave] == []
    disk.close()
    return True


@pytest.mark.parametrize("cut", [False, True])
def test_a_task_that_is_retried_while_it_is_packed_stays_whole(tmp_path: Path, *, cut: bool) -> None:
    assert points_of(tmp_path, partial(retried_at, cut=cut)) > 15


@pytest.mark.parametrize("point", range(16))
def test_the_files_of_a_task_that_is_retried_before_it_goes_stay(disk: RealDisk, point: int) -> None:
    task_id = ended(disk, 1, "failed", 25)
    disk.make_dir(f"{layout.files(task_id)}/deep")
    disk.write(f"{layout.files(task_id)}/deep/a", b"x")
    other = Retrying(disk, point, task_id, cut=False)
    passed(other, disk.root)
    passed(disk, disk.root)
    assert other.won is not None
    assert look.sizes(disk, layout.files(task_id)) == ({"deep/a": 1} if other.won else {})
    assert lives(disk, task_id) == other.won
