"""fsck finds what is wrong, mends it once, and has nothing left to do the second time."""

import errno
import gzip
import os
from itertools import permutations

import pytest
from msgspec.structs import replace

from spool import fsck, keys, layout, look, packs, records
from spool import waiting as waiting_for
from spool.disk import RealDisk, Unreadable
from spool.names import Entry, date_of, event_name, new_id
from spool.owncopy import Task, encode_task
from spool.place import Rival, mark_of
from spool.regroup import Regroup
from spool.times import format_utc

NOW = 1_795_240_000_000_000


def task(task_id, name="t.x"):
    return Task(
        id=task_id, task=name, args={"a": 1}, at=NOW, priority="low", submitted_at=NOW, uid=0, digest="d"
    )


def put(disk, path, task_id, *, linked=True):
    disk.make_dir(layout.parent_of(path))
    disk.write(path, encode_task(task(task_id)))
    if linked:
        disk.make_dir(layout.parent_of(layout.own_copy(task_id)))
        disk.link(path, layout.own_copy(task_id))


def waiting(disk, *, linked=True):
    entry = Entry(time=NOW, id=new_id(NOW), task="t.x", prio="low", base="low")
    put(disk, layout.pending(entry), entry.id, linked=linked)
    return entry


def grave(disk, *, repair=False):
    return [f for f in fsck.check(disk, repair=repair) if f.grave]


def mended(disk):
    """What one repair found; asserts that a second one finds nothing."""
    found = grave(disk, repair=True)
    assert grave(disk) == []
    assert grave(disk, repair=True) == []
    return found


def test_a_healthy_spool_has_no_findings(disk):
    waiting(disk)
    assert list(fsck.check(disk)) == []


@pytest.mark.parametrize(
    "path", ["pending/2026-12-02", "pending/2026-12-02/low", "done/2026-12-02", "ids/x"]
)
def test_a_file_where_a_directory_belongs_is_named_and_moved_away(disk, path):
    waiting(disk)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, b"x")
    (found,) = mended(disk)
    assert (found.path, found.what) == (path, "is not a directory")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("pending/9999-99-99x", "is not named by a date"),
        ("pending/2026-12-02/urgent", "is not named by a class"),
        ("pending/2026-12-02/urgent/low", "is not named by a class"),
        ("done/today", "is not named by a date"),
        ("logs/old", "is not named by a date"),
        ("running/old node", "is not named by a node"),
    ],
)
def test_a_directory_that_nobody_looks_into_is_named_and_moved_away(disk, path, what):
    waiting(disk)
    disk.make_dir(path)
    disk.write(f"{path}/f", b"x")
    (found,) = mended(disk)
    assert path.startswith(found.path)
    assert found.what == what


def test_what_a_file_server_shows_in_each_directory_is_left_alone(disk):
    waiting(disk)
    for above in ("pending", "pending/2026-12-02", "done", "running"):
        disk.make_dir(f"{above}/.snapshot")
    assert mended(disk) == []


def test_a_fifo_where_a_directory_belongs_is_moved_away(disk):
    os.mkfifo(os.path.join(disk.root, "pending", "f"))
    os.mkfifo(os.path.join(disk.root, "running", "n"))
    assert [found.what for found in mended(disk)] == ["is not a directory"] * 2


def test_a_task_under_two_names_of_one_state_stays_at_its_latest_attempt(disk):
    """Else its fencing token would go back."""
    entry = waiting(disk)
    one, two = (layout.running("n", replace(entry, **more)) for more in ({"lost": 1}, {"lost": 2}))
    disk.make_dir("running/n")
    disk.link(layout.pending(entry), one)
    disk.move(layout.pending(entry), two)
    (found,) = mended(disk)
    assert found.path == one
    assert look.find(disk, entry.id).path == two


@pytest.mark.parametrize(
    ("path", "words", "mends"),
    [
        ("nodes/pauses.json", "nothing is paused any more, for it is damaged", True),
        ("nodes/schedules.json", "is damaged", True),
        ("spool.toml", "spoold does not start with it", False),
    ],
)
def test_what_people_have_asked_for_is_named_where_it_is_damaged(disk, path, words, mends):
    if disk.info(path) is not None:
        disk.remove(path)
    disk.write(path, b"XX = = ")
    (found,) = grave(disk)
    assert (found.path, words in found.what) == (path, True)
    if mends:
        mended(disk)


def test_a_look_changes_nothing(disk):
    disk.make_dir("held")
    disk.write("held/rubbish.json", b"?")
    before = sorted(disk.names("held"))
    assert len(grave(disk)) == 1
    assert sorted(disk.names("held")) == before


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'{"v":1}', b"\xff" * 40, b"{}" * 3])
def test_a_damaged_body_goes_to_corrupt_with_its_reason(disk, body):
    path = layout.ended("done", NOW, Entry(time=NOW, id=new_id(NOW), task="t.x"))
    disk.make_dir(layout.parent_of(path))
    disk.write(path, body)
    (found,) = mended(disk)
    assert found.mended is not None
    kept = sorted(disk.names(layout.CORRUPT))
    assert len(kept) == 2
    assert disk.read(f"{layout.CORRUPT}/{kept[0]}", 100) == body
    assert b"done/" in disk.read(f"{layout.CORRUPT}/{kept[1]}", 1000)


@pytest.mark.parametrize("own", ["none", "the same", "damaged too", "whole"])
@pytest.mark.parametrize("where", ["due", "later", "held", "running"])
def test_a_damaged_task_that_has_not_ended_is_left_to_the_daemon_that_tells_of_it(disk, where, own):
    entry = Entry(time=NOW if where == "due" else 2**52, id=new_id(NOW), task="t.x")
    path = {
        "held": layout.held(replace(entry, why="asked")),
        "running": layout.running("n", entry),
    }.get(where, layout.pending(entry))
    for one in (path, layout.own_copy(entry.id)):
        disk.make_dir(layout.parent_of(one))
    disk.write(path, b"{")
    if own == "the same":
        disk.link(path, layout.own_copy(entry.id))
    elif own != "none":
        disk.write(layout.own_copy(entry.id), encode_task(task(entry.id)) if own == "whole" else b"[")
    disk.make_dir(files := layout.files(entry.id))
    assert any(found.grave and not found.mended for found in fsck.check(disk))
    at_once = list(fsck.check(disk, repair=True))
    if own == "whole":  # nothing is lost
        assert look.find(disk, entry.id).state == "pending"
        return
    assert [found.mended for found in at_once if found.what.endswith(fsck.LEFT)] == [None]
    assert disk.names(layout.CORRUPT) == []
    (found,) = fsck.check(disk, repair=True)
    assert (found.mended, found.grave) == (None, True)
    assert found.what.endswith(fsck.LEFT)
    assert disk.read(found.path, 9) == b"{"
    assert found.path == (path if where == "running" else layout.pending(entry))
    assert disk.info(files)


def test_of_a_damaged_task_in_two_places_one_is_left_to_the_daemon(disk):
    entry = Entry(time=NOW, id=new_id(NOW), task="t.x")
    for path in (layout.pending(entry), layout.held(replace(entry, why="asked"))):
        disk.make_dir(layout.parent_of(path))
        disk.write(path, b"{")
    list(fsck.check(disk, repair=True))
    (found,) = fsck.check(disk, repair=True)
    assert (found.path, found.mended) == (layout.pending(entry), None)
    assert len(disk.names(layout.CORRUPT)) == 2


def test_a_name_with_an_id_of_no_date_is_taken_out_of_the_way(disk):
    disk.make_dir("pending/2026-11-21/low")
    name = "143000.000000,ffffffffffff7fff8fffffffffffffff,t.x.json"
    disk.write(f"pending/2026-11-21/low/{name}", encode_task(task("ffffffffffff7fff8fffffffffffffff")))
    assert len(mended(disk)) == 1


@pytest.mark.parametrize("folder", ["held", "done/2026-11-21", "running/n", "pending/2026-11-21/high"])
def test_a_strangers_file_is_taken_out_of_the_way(disk, folder):
    disk.make_dir(folder)
    disk.write(f"{folder}/notes.txt", b"mine")
    os.symlink("/etc/passwd", os.path.join(disk.root, folder, "link.json"))
    assert len(mended(disk)) == 2
    assert disk.names(folder) == []


@pytest.mark.parametrize("folder", ["outbox/shop", "rejected/2026-11-21"])
def test_a_directory_where_spoold_makes_none_is_for_people_to_remove(disk, folder):
    disk.make_dir(f"{folder}/a.json/below")
    found = [fsck.Finding(f"{folder}/a.json", "is a directory that somebody has made: remove it")]
    assert list(fsck.check(disk, repair=True)) == found


def test_a_task_in_two_places_stays_where_its_record_says(disk):
    entry = waiting(disk)
    target = layout.ended("done", NOW, entry)
    disk.make_dir(layout.parent_of(target))
    disk.link(layout.pending(entry), target)
    content = records.record(
        event="done", task=task(entry.id), entry=entry, node="n", parent="default", now=NOW, outcome="ok"
    )
    content["entry"] = target
    path = layout.record(entry.id, 1)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, records.encode(content))
    (found,) = mended(disk)
    assert found.path == layout.pending(entry)
    assert look.find(disk, entry.id).state == "done"


def recorded(disk, entry, event, target, attempt=1, **more):
    content = records.record(
        event=event, task=task(entry.id), entry=entry, node="n", parent="default", now=NOW, outcome="ok"
    )
    path = layout.record(entry.id, attempt)
    more |= {"entry": target, "attempt": attempt, "will_retry": event == "retrying"}
    disk.make_dir(layout.parent_of(path))
    disk.write(path, records.encode(content | more))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("state", layout.ENDED)
def test_a_task_that_has_ended_and_nothing_says_how_gets_a_record_that_says_so(disk, state, before):
    entry = replace(waiting(disk), fails=int(before))
    target = layout.ended(state, NOW, entry)
    disk.make_dir(layout.parent_of(target))
    disk.move(layout.pending(replace(entry, fails=0)), target)
    if before:  # an attempt that did not end it
        recorded(disk, entry, "retrying", layout.pending(entry))
    assert [found.path for found in mended(disk)] == [target]
    last = waiting_for.ended(disk, disk.root, entry.id, 0)
    assert (last["event"], last["attempt"], last["result"]) == (state, 1 + before, None)
    assert last["error"]["type"] == "unrecorded"


@pytest.mark.parametrize("left", [[], [1], [1, 2]])
def test_the_record_that_is_made_for_a_failure_has_the_number_of_the_last_attempt(disk, left):
    """Where the number is taken, by an attempt that did not end it, the next one."""
    entry = replace(waiting(disk), fails=2)
    target = layout.ended("failed", NOW, entry)
    disk.make_dir(layout.parent_of(target))
    disk.move(layout.pending(replace(entry, fails=0)), target)
    for number in left:
        recorded(disk, entry, "retrying", layout.pending(entry), attempt=number)
    mended(disk)
    assert list(look.numbered(disk, entry.id)) == [*left, 3 if 2 in left else 2]


def test_a_task_that_goes_on_while_it_is_looked_at_stops_nothing(disk, monkeypatch):
    entry = waiting(disk)
    recorded(disk, entry, "done", layout.ended("done", NOW, entry))
    last_record = look.last_record

    def gone(*asked):
        disk.remove(layout.pending(entry))
        return last_record(*asked)

    monkeypatch.setattr(look, "last_record", gone)
    assert grave(disk) == []


@pytest.mark.parametrize("state", ["pending", "held"])
def test_a_task_that_waits_for_an_attempt_that_is_on_record_stands_where_that_says(disk, state):
    """As in a copy of a spool that was at work: the place was copied first, then the record."""
    entry = waiting(disk)
    target = layout.ended("done", NOW, entry)
    recorded(disk, entry, "done", target)
    if state == "held":
        disk.move(layout.pending(entry), layout.held(entry))
    (found,) = mended(disk)
    assert found.mended == f"moved to {target}"
    assert look.find(disk, entry.id).path == target


def test_a_task_stays_where_it_is_whatever_a_record_of_an_earlier_one_with_its_id_says(disk):
    entry = waiting(disk)
    recorded(disk, entry, "done", layout.ended("done", NOW, entry), submitted_at=format_utc(NOW - 1))
    assert mended(disk) == []


def test_a_record_whose_number_is_text_stops_nothing(disk):
    entry = waiting(disk)
    recorded(disk, entry, "retrying", layout.pending(entry), attempt="1")
    assert list(fsck.check(disk)) == []


def test_a_task_that_was_asked_for_again_stays_where_it_is(disk):
    entry = waiting(disk)
    again = replace(entry, interrupted=1)
    disk.move(layout.pending(entry), layout.pending(again))
    recorded(disk, entry, "done", layout.ended("done", NOW, entry))
    assert mended(disk) == []


def test_a_task_without_a_place_goes_back_to_the_queue(disk):
    entry = waiting(disk)
    disk.remove(layout.pending(entry))
    (found,) = mended(disk)
    assert "put at pending/" in found.mended
    assert look.find(disk, entry.id).state == "pending"


def test_a_task_that_gets_its_place_back_keeps_the_files_that_came_with_it(disk):
    entry = waiting(disk)
    disk.remove(layout.pending(entry))
    disk.make_dir(layout.files(entry.id))
    disk.write(f"{layout.files(entry.id)}/a", b"x")
    mended(disk)
    assert disk.read(f"{layout.files(entry.id)}/a", 1) == b"x"


def test_a_task_without_a_place_goes_where_its_record_says(disk):
    entry = waiting(disk)
    target = layout.ended("failed", NOW, entry)
    content = records.record(
        event="failed",
        task=task(entry.id),
        entry=entry,
        node="n",
        parent="default",
        now=NOW,
        outcome="error",
    )
    content["entry"] = target
    disk.make_dir(layout.parent_of(layout.record(entry.id, 1)))
    disk.write(layout.record(entry.id, 1), records.encode(content))
    disk.remove(layout.pending(entry))
    mended(disk)
    assert look.find(disk, entry.id).path == target


def test_no_record_makes_fsck_write_outside_of_its_place(disk, tmp_path):
    entry = waiting(disk)
    content = failure(1, NOW) | {"id": entry.id, "entry": "../../outside.json"}
    content["error"]["fingerprint"] = "../../outside"
    disk.make_dir(layout.parent_of(layout.record(entry.id, 1)))
    disk.write(layout.record(entry.id, 1), records.encode(content))
    disk.remove(layout.pending(entry))
    mended(disk)
    assert look.find(disk, entry.id).state == "pending"
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]
    assert disk.names("errors") == []


def test_a_missing_own_copy_is_linked_again(disk):
    entry = waiting(disk, linked=False)
    (found,) = mended(disk)
    assert found.mended == "linked"
    assert disk.info(layout.own_copy(entry.id)).nlink == 2


def test_a_body_under_another_tasks_name_is_found_out(disk):
    entry = Entry(time=NOW, id=new_id(NOW), task="t.x")
    other, path = new_id(NOW + 1000), layout.ended("done", NOW, entry)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, encode_task(task(other)))
    (found,) = mended(disk)
    assert "another task" in found.what


def test_torn_records_and_events_are_kept_aside(disk):
    entry = waiting(disk)
    disk.make_dir(layout.parent_of(layout.record(entry.id, 1)))
    disk.write(layout.record(entry.id, 1), b'{"v":1,"ev')
    disk.make_dir("outbox/shop")
    disk.write("outbox/shop/whatever.json", b"{}")
    assert len(mended(disk)) == 2


@pytest.mark.parametrize("name", ["nodot", "x.1.json", "a.b"])
def test_a_record_under_another_name_is_kept_aside(disk, name):
    entry = waiting(disk)
    folder = layout.parent_of(layout.record(entry.id, 1))
    disk.make_dir(folder)
    disk.write(f"{folder}/{name}", records.encode(failure(1, NOW) | {"id": entry.id}))
    (found,) = mended(disk)
    assert found.path == f"{folder}/{name}"


def test_what_is_no_pack_is_named_and_ends_nothing(disk):
    entry = waiting(disk)
    folder = f"packed/{date_of(NOW)}"
    disk.make_dir(f"{folder}/2027-01-01.1.jsonl.gz")
    disk.make_dir(f"{folder}/2027-01-01.2.ids")
    assert [found.path for found in grave(disk)] == [f"{folder}/2027-01-01.1.jsonl.gz"]
    assert packs.known(disk, entry.id) is None


def test_a_journal_that_is_too_large_to_look_at_is_named(disk):
    disk.make_dir("journal/n")
    with open(os.path.join(disk.root, "journal/n/2026-01-01.jsonl"), "wb") as file:
        file.truncate((1 << 30) + 1)
    (found,) = fsck.check(disk)
    assert (found.path, found.grave) == ("journal/n/2026-01-01.jsonl", False)
    assert "is not looked at: more than 1073741824 bytes" in found.what


def test_a_missing_directory_is_made(disk):
    os.rmdir(os.path.join(disk.root, "outbox"))
    (found,) = mended(disk)
    assert found.path == "outbox"


def test_what_start_up_mends_is_named_and_is_no_fault(disk):
    disk.make_dir("running/n")
    disk.write("running/n/.shop,x.json", b"{")
    disk.make_dir("journal/n")
    disk.write("journal/n/2026-11-21.jsonl", b'{"at":"x"}\n{"at":')
    found = list(fsck.check(disk))
    assert [f.grave for f in found] == [False, False]


def test_a_copy_that_lost_its_hard_links_is_joined_again(disk):
    entry = waiting(disk, linked=False)
    own = layout.own_copy(entry.id)
    disk.make_dir(layout.parent_of(own))
    disk.write(own, encode_task(task(entry.id)))
    (found,) = mended(disk)
    assert found.mended == "linked again"
    assert disk.info(own).nlink == 2


def failure(number, at, *, version=None):
    error = {"type": "exit 1", "message": f"m{number}", "trace": None, "fingerprint": "0" * 16}
    return {
        "id": f"id{number}", "attempt": 1, "task": "t", "event": "failed", "error": error, "node": "n",
        "version": version, "ended_at": format_utc(at),
    }  # fmt: skip


def line(number, at, **more):
    return {
        "id": f"id{number}", "attempt": 1, "task": "t", "event": "give_up", "error": "0" * 16, "node": "n",
        "type": "exit 1", "to": "failed", "at": format_utc(at), **more,
    }  # fmt: skip


def test_a_failure_that_is_told_of_twice_is_counted_once_whatever_the_order():
    shown = [("record", failure(1, NOW)), ("line", line(1, NOW)), ("line", line(2, NOW + 1)),
             ("record", failure(3, NOW + 2, version=7)), ("line", line(4, NOW + 3))]  # fmt: skip
    care = {
        "event": "resolve",
        "errors": ["0" * 16],
        "by": {"uid": 1, "at": "x"},
        "at": format_utc(NOW + 2),
    }
    for rows in permutations([*shown, ("line", care)], 6):
        again = Regroup()
        for how, what in rows:
            getattr(again, how)(what)
        (found,) = again.groups({"id4"}.__contains__).values()
        assert (found.count, found.failed, found.first, found.last) == (3, 3, NOW, NOW + 2)
        assert (found.message, found.versions) == ("m1", {"none": 2, "7": 1})
        assert (found.state, found.by) == ("resolved", care["by"]), "it was said of all before"


@pytest.mark.parametrize("odd", [{}, None, [], 1, {"event": "resolve"}, {"error": "x"}, {"error": {"fingerprint": 1}},
                                 {"event": "mute", "errors": 1, "at": "x", "by": None}])  # fmt: skip
def test_what_is_no_failure_is_no_failure(odd):
    again = Regroup()
    again.line(odd)
    if isinstance(odd, dict):
        again.record(odd)
    assert again.groups(bool) == {}


def test_a_directory_in_the_place_of_a_journal_is_named(disk):
    disk.make_dir("journal/n/2026-01-01.jsonl")
    (found,) = fsck.check(disk)
    assert found.path == "journal/n/2026-01-01.jsonl"


def test_a_packed_journal_is_read_and_not_called_torn(disk):
    disk.make_dir("journal/n")
    disk.write("journal/n/2026-01-01.jsonl.gz", gzip.compress(b'{"a":1}\n{"b":\n'))
    (found,) = fsck.check(disk)
    assert found.what == "1 lines are torn, first line 2"
    disk.remove("journal/n/2026-01-01.jsonl.gz")
    disk.write("journal/n/2026-01-01.jsonl.gz", b"no gzip")
    (found,) = fsck.check(disk)
    assert "cannot be unpacked" in found.what


def keyed(disk, key="k", *, at=NOW):
    entry = Entry(time=at, id=new_id(NOW), task="t.x", prio="low", base="low")
    path = layout.pending(entry)
    disk.make_dir(layout.parent_of(path))
    disk.write(path, encode_task(replace(task(entry.id), key=key)))
    disk.make_dir(layout.parent_of(layout.own_copy(entry.id)))
    disk.link(path, layout.own_copy(entry.id))
    return entry.id


def test_a_key_that_its_task_does_not_have_on_disk_is_written_anew(disk):
    task_id = keyed(disk)
    assert [f.mended for f in mended(disk)] == ["written anew"]
    claim = keys.read(disk, layout.key(mark_of("k")))
    assert claim is not None
    assert keys.rival(disk, claim, NOW) == Rival(task_id, "unfinished")


def test_two_tasks_with_one_key_are_named_and_both_kept(disk):
    first, second = keyed(disk), keyed(disk, at=NOW + 1)
    grave(disk, repair=True)
    (found,) = grave(disk)
    assert first in found.what
    assert second in found.what
    assert disk.info(layout.own_copy(first)).nlink == disk.info(layout.own_copy(second)).nlink == 2


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"key": "k", "id": "x"}'])
def test_a_damaged_file_of_a_key_goes_to_corrupt(disk, data):
    disk.make_dir(layout.KEYS)
    disk.write(layout.key(mark_of("k")), data)
    (found,) = mended(disk)
    assert "corrupt/" in found.mended


def test_a_file_of_a_key_under_another_name_goes_to_corrupt(disk):
    disk.make_dir(layout.KEYS)
    disk.write(layout.key(mark_of("k")), keys.encode(replace(task(new_id(NOW)), key="l"), "n"))
    (found,) = mended(disk)
    assert "another key" in found.what


class Rotten(RealDisk):
    """One path cannot be read."""

    path = ""

    def read(self, path, limit):
        if path == self.path:
            raise Unreadable(errno.EIO, "cannot be read", path)
        return super().read(path, limit)

    def names(self, path):
        if path == self.path:
            raise Unreadable(errno.EUCLEAN, "cannot be read", path)
        return super().names(path)


@pytest.mark.parametrize("what", ["task", "folder", "dropped", "record", "event", "ids", "pauses", "key"])
def test_what_the_disk_cannot_read_is_named_and_stays_and_what_is_not_known_is_not_mended(disk, what):
    entry = waiting(disk)
    paths = {
        "task": layout.pending(entry),
        "folder": layout.parent_of(layout.pending(entry)),
        "dropped": f"{layout.INCOMING}/x.json",
        "record": layout.record(entry.id, 1),
        "event": f"{layout.OUTBOX}/shop/{event_name(NOW, entry.id, 'run.a', 'done')}",
        "ids": f"{layout.PACKED}/{date_of(NOW)}/2027-01-01.1{packs.IDS}",
        "pauses": layout.PAUSES,
        "key": layout.key(mark_of("k")),
    }
    path = paths[what]
    files = f"{layout.FILES}/{date_of(NOW)}/{new_id(NOW)}"  # of what may have been dropped
    disk.make_dir(files)
    homeless = new_id(NOW)  # or in a pack
    disk.make_dir(layout.parent_of(layout.own_copy(homeless)))
    disk.write(layout.own_copy(homeless), encode_task(task(homeless)))
    if disk.info(path) is None:
        disk.make_dir(layout.parent_of(path))
        disk.write(path, b"{}")
    rotten = Rotten(disk.root)
    rotten.path = path
    found = {f.path: f for f in fsck.check(rotten, repair=True)}
    assert found[path].mended is None
    assert found[path].grave
    assert disk.info(path) is not None
    assert (disk.info(layout.own_copy(homeless)).nlink == 1) == (
        what in {"task", "folder", "record", "ids"}
    )
    assert (disk.info(files) is not None) == (what in {"task", "folder", "record", "ids", "dropped"})
    rotten.close()
