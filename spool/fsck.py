"""Is everything where it belongs? Checks every promise a spool's files can show, and mends.

Run it while no spoold serves the spool: it takes what it sees for the truth. Nothing is deleted but
second names of a task that stands elsewhere; what cannot be understood goes to corrupt/.
"""

from __future__ import annotations

import stat
import zlib
from typing import TYPE_CHECKING

import orjson
from msgspec import Struct
from msgspec.structs import replace

from spool import daemons, dropped, failures, keys, layout, look, packs, records, settings, settingsfile
from spool.disk import Missing, NotRegular, TooLarge, Unreadable, link_anew, write_anew
from spool.errors import Invalid, SpoolError
from spool.look import DAMAGED
from spool.names import PRIORITIES, BadName, is_id, is_task, parse_event
from spool.place import first_path, mark_of
from spool.prune.retention import is_date
from spool.quarantine import quarantine
from spool.regroup import Regroup
from spool.times import format_utc
from spool.waiting import tells_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spool.disk import Disk
    from spool.owncopy import Task

OF_OTHERS = (layout.SETTINGS, layout.SIGNERS, layout.REVOKED, layout.WRITERS)
ROOT = {layout.FORMAT, *OF_OTHERS, *layout.TREE, *layout.MADE_WHEN_NEEDED}
DATED = (layout.PENDING, *layout.ENDED, layout.ATTEMPTS, layout.IDS, layout.LOGS)
LEFT = "once it is due, or somebody cancels it, spoold puts it aside and tells its parent"
MADE = "is a directory that somebody has made: remove it"
UNRECORDED = "how it ended is not known: its record was gone"
# A task in two places stands in the one that comes first here: ended, or at work, or waiting.
RANK = (*layout.ENDED, layout.RUNNING, layout.HELD, layout.PENDING)


class Finding(Struct, frozen=True):
    """One thing that is not as it should be. `mended` says what was done, None where nothing was.

    `grave` is False for what the next start of spoold puts in order by itself.
    """

    path: str
    what: str
    mended: str | None = None
    grave: bool = True


class Fsck:
    """One pass over a spool. With `repair` each finding is mended as it is found."""

    def __init__(self, disk: Disk, *, repair: bool) -> None:
        self.disk = disk
        self.repair = repair
        self.places: dict[str, list[str]] = {}
        self.damaged: list[tuple[str, str]] = []  # entries, and what is wrong with them
        self.left: set[str] = set()  # tasks that spoold puts aside
        self.staged: dict[str, int] = {}  # what is being taken in: the inode of its own copy
        self.keyed: dict[str, Task] = {}  # what has not ended and has a key
        self.brought: dict[str, tuple[str, ...]] = {}  # the files that came with a task
        self.failures = Regroup()
        self.settings, self.unset = settings.load(""), ""  # why it cannot be known what is set
        try:
            self.settings = settingsfile.read(disk)
        except (SpoolError, OSError) as problem:
            self.unset = str(problem)
            self.repair = repair and not isinstance(problem, Unreadable)

    def run(self) -> Iterator[Finding]:
        """All checks, in an order in which each relies on those before it."""
        try:
            yield from self._tree()
            yield from self._entries()
            yield from self._broken()
            yield from self._twice()
            yield from self._records()
            yield from self._ids()
            yield from self._dropped()
            yield from self._files()
            yield from self._keys()
            yield from self._refused()
            yield from self._outboxes()
            yield from self._journal()
            yield from self._packs()
            yield from self._errors()
            yield from self._wanted()
        except Unreadable as problem:  # what else is there is not known, so nothing more is mended
            what = f"{problem}; mend the file system, then look again: the rest was not checked"
            yield Finding(str(problem.filename), what)

    # The checks.

    def _wanted(self) -> Iterator[Finding]:
        """What people have asked for: pauses, schedules and settings."""
        try:
            daemons.read_pauses(self.disk)
        except Missing:
            pass
        except (*DAMAGED, ValueError, TypeError) as problem:
            yield self._away(layout.PAUSES, f"nothing is paused any more, for it is damaged: {problem}")
        try:
            daemons.read_schedules(self.disk)
        except Invalid as problem:
            yield self._away(layout.SCHEDULES, problem.rule)
        if self.unset:
            yield Finding(layout.SETTINGS, f"spoold does not start with it: {self.unset}")

    def _tree(self) -> Iterator[Finding]:
        for name in layout.TREE:
            info = self.disk.info(name)
            if info is None:
                yield self._mend(
                    name, "directory is missing", "made", lambda n=name: self.disk.make_dir(n)
                )
            elif not stat.S_ISDIR(info.mode):
                yield Finding(name, "is not a directory")
        for name in self.disk.names("."):
            if name not in ROOT and not name.startswith("."):
                yield Finding(name, "does not belong to a spool", grave=False)
        for above in DATED:
            yield from self._folders_in(above, is_date, "is not named by a date")
        yield from self._folders_in(layout.RUNNING, is_task, "is not named by a node")
        for day in look.names(self.disk, layout.PENDING):
            above = f"{layout.PENDING}/{day}"
            yield from self._folders_in(above, PRIORITIES.__contains__, "is not named by a class")

    def _folders_in(self, above: str, is_name: Callable[[str], bool], rule: str) -> Iterator[Finding]:
        """What is no directory where there are directories alone, or one that nobody looks into."""
        for name in look.names(self.disk, above):
            path = f"{above}/{name}"
            info = None if name.startswith(".") else self.disk.info(path)  # a file server's .snapshot
            if info is not None and not (stat.S_ISDIR(info.mode) or stat.S_ISLNK(info.mode)):
                yield self._away(path, "is not a directory")
            elif info is not None and not is_name(name):
                yield self._away(path, rule)

    def _entries(self) -> Iterator[Finding]:
        for folder in self._folders():
            for name in look.names(self.disk, folder):
                path = f"{folder}/{name}"
                if name.startswith("."):
                    if folder.startswith(layout.RUNNING):
                        task_id = layout.staged_id(name)
                        if task_id and (info := self.disk.info(path)) is not None:
                            self.staged[task_id] = info.ino
                        yield Finding(path, "was being prepared; spoold sees to it", grave=False)
                    else:
                        yield self._away(path, "does not belong here")
                    continue
                yield from self._entry(path)

    def _folders(self) -> Iterator[str]:
        for folder in look.folders(self.disk, layout.STATES):
            info = self.disk.info(folder)
            if info is not None and stat.S_ISDIR(info.mode):
                yield folder

    def _entry(self, path: str) -> Iterator[Finding]:
        try:
            entry = look.entry_at(path)
            task = look.read_task(self.disk, path)
        except BadName as problem:
            yield self._away(path, str(problem))
            return
        except DAMAGED as problem:
            self.damaged.append((path, str(problem)))
            return
        except Unreadable as problem:
            self.places.setdefault(look.entry_at(path).id, []).append(path)
            yield self._lost(path, problem)
            return
        except Missing:
            return
        self.places.setdefault(entry.id, []).append(path)
        if task.files:
            self.brought[entry.id] = task.files
        lives = not path.startswith(layout.ENDED) and entry.why != "cancelled"
        if task.key is not None and task.duplicate_of is None and lives:
            self.keyed[entry.id] = replace(task, args=None, meta={})

    def _broken(self) -> Iterator[Finding]:
        """A task of which nothing whole is left: spoold puts it aside when due, and tells its parent."""
        for path, why in self.damaged:
            entry = look.entry_at(path)
            more = entry.id in self.places or entry.id in self.left or self._is_whole(entry.id)
            if more or path.startswith(layout.ENDED):
                yield self._away(path, why)
                continue
            self.left.add(entry.id)
            target = layout.pending(replace(entry, why=""))
            moves = self.repair and path != target and not path.startswith(layout.RUNNING)
            if moves:
                self._move(path, target)
            yield Finding(path, f"{why}; {f'moved to {target}; ' * moves}{LEFT}")  # and so is not mended

    def _is_whole(self, task_id: str) -> bool:
        try:
            look.read_task(self.disk, layout.own_copy(task_id))
        except (Missing, Unreadable, *DAMAGED):
            return False
        return True

    def _twice(self) -> Iterator[Finding]:
        for task_id, paths in self.places.items():
            if len(paths) < 2:
                continue
            last = look.last_record(self.disk, task_id) or {}
            paths.sort(key=lambda p: (p != last.get("entry"), _rank(p)))
            for path in paths[1:]:
                what = f"task stands here and at {paths[0]}"
                yield self._mend(path, what, "removed here", lambda p=path: self.disk.remove(p))
            if self.repair:
                del paths[1:]

    def _records(self) -> Iterator[Finding]:
        last: dict[str, int] = {}  # the newest attempt of each task that is on record
        ended: set[str] = set()  # tasks whose newest record tells their end
        for path in self._dated(layout.ATTEMPTS):
            try:
                found = records.decode(self.disk.read(path, records.RECORD_LIMIT))
                if not is_id(found["id"]) or path != layout.record(
                    found["id"], found.get("attempt") or 0
                ):
                    raise Invalid("record", found["id"], "stands under another name")
                self.failures.record(found)
                if (number := int(found.get("attempt") or 0)) >= last.get(found["id"], 0):
                    last[found["id"]] = number
                    (ended.add if tells_end(found) else ended.discard)(found["id"])
            except (*DAMAGED, ValueError) as problem:
                yield self._away(path, str(problem))
            except Unreadable as problem:
                ended.add(path.rpartition("/")[2].partition(".")[0])
                yield self._lost(path, problem)
            except Missing:
                continue
        for task_id, (path, *_) in self.places.items():
            has_ended = path.startswith(layout.ENDED)
            if has_ended and task_id not in ended:
                what = "no record says how it ended, and `spool wait` waits for one"
                yield self._mend(path, what, "one was made", lambda p=path: self._record(p))
            elif task_id in last and not has_ended:
                yield from self._stale(path, task_id, last[task_id])

    def _record(self, path: str) -> None:
        """What is known of an end that nothing tells of."""
        state, info = path.partition("/")[0], self.disk.info(path)
        entry, task = look.entry_at(path), look.read_task(self.disk, path)
        content = records.record(
            event=state,
            task=task,
            entry=entry,
            node="",
            parent=task.notify or layout.DEFAULT_PARENT,
            now=min(entry.time, info.ctime_us if info else entry.time),
            outcome={layout.DONE: "ok", layout.FAILED: "error"}.get(state, "cancelled"),
            error=records.error("unrecorded", UNRECORDED),
        )
        number = entry.attempt - (state == layout.FAILED and entry.fails > 0)  # its name counts the last
        number = max(number, 1 + max(look.numbered(self.disk, entry.id), default=0))
        content |= {"entry": path, "attempt": number}
        self._rewrite(layout.record(entry.id, number), records.encode(content))

    def _stale(self, path: str, task_id: str, number: int) -> Iterator[Finding]:
        """A task that waits, as a copy has it that was made while it ran: its record is newer."""
        if path.startswith(layout.RUNNING) or look.entry_at(path).attempt > number:
            return  # what runs is in order when spoold has started
        last = look.last_record(self.disk, task_id) or {}
        try:
            task = look.read_task(self.disk, path)
        except Missing:
            return  # it has just gone on
        target, since = str(last.get("entry")), format_utc(task.submitted_at)
        # Another task may have had this id before.
        if _is_place(target) and target != path and last.get("submitted_at", since) == since:
            what = f"waits for attempt {number}, which is on record"
            yield self._mend(path, what, f"moved to {target}", lambda: self._move(path, target))
            self.places[task_id] = [target]
            self.keyed.pop(task_id, None)

    def _ids(self) -> Iterator[Finding]:
        known = set()
        for path in self._dated(layout.IDS):
            task_id = path.rpartition("/")[2].removesuffix(".json")
            if not is_id(task_id) or path != layout.own_copy(task_id):
                yield self._away(path, "is not the name of a task's own copy")
                continue
            known.add(task_id)
            if task_id not in self.places and task_id not in self.left:
                yield from self._homeless(path, task_id)
        for task_id, paths in self.places.items():
            own = layout.own_copy(task_id)
            if task_id in known:
                yield from self._split(own, paths[0])
            else:
                yield self._mend(
                    own,
                    f"is missing for {paths[0]}",
                    "linked",
                    lambda s=paths[0], o=own: self._link(s, o),
                )
        if self.repair and self.disk.info(layout.RELINK) is not None:
            self.disk.remove(layout.RELINK)  # that is done

    def _split(self, own: str, path: str) -> Iterator[Finding]:
        """A copy that did not keep hard links has made two files of one."""
        one, other = self.disk.info(own), self.disk.info(path)
        if one is None or other is None or one.ino == other.ino:
            return

        def join() -> None:
            self.disk.remove(own)
            self._link(path, own)

        yield self._mend(own, f"is not the same file as {path}", "linked again", join)

    def _homeless(self, path: str, task_id: str) -> Iterator[Finding]:
        """An own copy whose task stands nowhere: back to where its records say, else to the queue.

        One that is staged, too, is given its place by the next start.
        """
        if packs.known(self.disk, task_id) is not None:
            yield Finding(path, "its task is in a pack; spoold removes it", grave=False)
            return
        try:
            task = look.read_task(self.disk, path)
        except DAMAGED as problem:
            yield self._away(path, str(problem))
            return
        except Unreadable as problem:
            yield self._lost(path, problem)
            return
        except Missing:
            return
        if (info := self.disk.info(path)) is None or info.ino == self.staged.get(task_id):
            return
        last = look.last_record(self.disk, task_id)
        target = first_path(task, self.settings.handler_for(task.task))
        if last is not None and _is_place(last.get("entry")):
            target = last["entry"]
        yield self._mend(
            path, "task has no place", f"put at {target}", lambda t=target: self._link(path, t)
        )
        self.places[task_id] = [target]

    def _files(self) -> Iterator[Finding]:
        """Files are of a task that is there, and all that came with it are."""
        for path in self._dated(layout.FILES):
            task_id = path.rpartition("/")[2]
            if not is_id(task_id) or path != layout.files(task_id):
                yield self._away(path, "is not named by a task whose files it holds")
            elif not any(task_id in known for known in (self.places, self.staged, self.left)):
                if dropped.waiting(self.disk, task_id) is not None:
                    continue  # its action is still to be carried out
                yield self._away(path, "holds files of a task that is not there")
        for task_id, names in self.brought.items():
            for name in names:
                if self.disk.info(f"{layout.files(task_id)}/{name}") is None:
                    path = self.places[task_id][0]
                    yield Finding(path, f"its file {layout.files(task_id)}/{name} is missing")

    def _keys(self) -> Iterator[Finding]:
        """Who has a key is told by its file, and nobody else who has not ended says so."""
        for name in look.names(self.disk, layout.KEYS):
            path = layout.key(name)
            claim = keys.read(self.disk, path) if path != layout.KEY_LOCKS else None
            if claim is not None and not claim.id:
                yield self._away(path, "does not say who has a key")
            elif claim is not None and claim.mark != name:
                yield self._away(path, "stands under the name of another key")
        for name in look.names(self.disk, layout.KEY_LOCKS):
            what = "a key was being taken over; spoold sees to it"
            yield Finding(layout.key_lock(name), what, grave=False)
        for task_id, task in self.keyed.items():
            path = layout.key(mark_of(task.key or "", task.writer))
            claim = keys.read(self.disk, path)
            if claim is not None and claim.id == task_id:
                continue
            if claim is not None and claim.id in self.keyed:
                yield Finding(path, f"{claim.id} and {task_id} have not ended, and both have this key")
                continue
            data = keys.encode(task, "")
            what = f"does not say that {task_id} has this key"
            yield self._mend(path, what, "written anew", lambda p=path, d=data: self._rewrite(p, d))

    def _rewrite(self, path: str, data: bytes) -> None:
        self.disk.make_dir(layout.parent_of(path))
        write_anew(self.disk, path, data)
        self.disk.sync([path], [layout.parent_of(path)])

    def _dropped(self) -> Iterator[Finding]:
        """What is in a dropped file is spoold's to judge, where it can be read."""
        for folder in dropped.folders(self.disk):
            for name in look.names(self.disk, folder):
                path = f"{folder}/{name}"
                try:
                    if self.disk.info(path) is not None:
                        self.disk.read(path, dropped.LIMIT)
                except Unreadable as problem:
                    yield self._lost(path, problem)
                except OSError:
                    continue

    def _refused(self) -> Iterator[Finding]:
        for path in self._dated(layout.REJECTED):
            info = self.disk.info(path)
            if info is not None and stat.S_ISDIR(info.mode):
                yield Finding(path, MADE)

    def _outboxes(self) -> Iterator[Finding]:
        for parent in look.names(self.disk, layout.OUTBOX):
            folder = f"{layout.OUTBOX}/{parent}"
            for name in look.names(self.disk, folder):
                path = f"{folder}/{name}"
                info = self.disk.info(path)
                if info is not None and stat.S_ISDIR(info.mode):
                    yield Finding(path, MADE)
                    continue
                try:
                    if parse_event(name) is None:
                        raise BadName("is not the name of an event")
                    records.decode(self.disk.read(path, records.RECORD_LIMIT))
                except (*DAMAGED, PermissionError) as problem:
                    yield self._away(path, str(problem), file=True)
                except Unreadable as problem:
                    yield self._lost(path, problem)
                except Missing:
                    continue  # its parent has just read it

    def _journal(self) -> Iterator[Finding]:
        for node in look.names(self.disk, layout.JOURNAL):
            for name in look.names(self.disk, f"{layout.JOURNAL}/{node}"):
                path = f"{layout.JOURNAL}/{node}/{name}"
                try:
                    data = self.disk.read(path, 1 << 30)
                    if name.endswith(".gz"):
                        data = zlib.decompress(data, wbits=31)
                except NotRegular:
                    yield Finding(path, "is no regular file")
                    continue
                except Unreadable as problem:
                    yield self._lost(path, problem)
                    continue
                except TooLarge as problem:
                    yield Finding(path, f"is not looked at: {problem.strerror}", grave=False)
                    continue
                except Missing:
                    continue
                except zlib.error as problem:
                    yield Finding(path, f"cannot be unpacked: {problem}")
                    continue
                bad = [i for i, line in enumerate(data.splitlines(), 1) if line and not self._line(line)]
                if bad:
                    yield Finding(path, f"{len(bad)} lines are torn, first line {bad[0]}", grave=False)

    def _line(self, line: bytes) -> bool:
        """Whether it is JSON; one that tells of an error is looked at."""
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            return False
        self.failures.line(found)
        return True

    def _packs(self) -> Iterator[Finding]:
        for name in look.names(self.disk, layout.PACKED):
            if name.startswith(".") or name == "packing.json":
                yield Finding(
                    f"{layout.PACKED}/{name}", "a packing was cut off; spoold sees to it", grave=False
                )
        for path in packs.packs(self.disk):
            if (info := self.disk.info(path)) is not None and not stat.S_ISREG(info.mode):
                yield Finding(path, "is no regular file")
                continue
            listed = self.disk.info(path.removesuffix(packs.PACK) + packs.IDS)
            wanted = 0 if listed is None else listed.size // packs.LINE
            found = 0
            for one in packs.read(self.disk, path):
                found += 1
                for record in one.attempts:
                    self.failures.record(record)
            if found != wanted:
                yield Finding(path, f"holds {found} tasks that can be read, its list of ids {wanted}")

    def _errors(self) -> Iterator[Finding]:
        """Groups of errors that are damaged, missing, or behind what is known of failures."""
        known: dict[str, failures.Group] = {}
        for name in look.names(self.disk, layout.ERRORS):
            path = f"{layout.ERRORS}/{name}"
            if name.startswith("."):
                continue  # being written
            try:
                one = failures.decode(self.disk.read(path, records.RECORD_LIMIT))
                if name != f"{one.fingerprint}.json":
                    raise Invalid("error group", one.fingerprint, "stands under another name")
                known[one.fingerprint] = one
            except DAMAGED as problem:
                yield self._away(path, str(problem))
            except Missing:
                continue
        made = self.failures.groups(self.places.__contains__)
        for one in list(made.values())[-failures.KEPT :]:
            old = known.get(one.fingerprint)
            if old is not None and old.count >= one.count:
                continue  # it may remember what nothing else does
            what = "is missing" if old is None else f"counts {old.count}"
            if old is not None:
                one.state, one.by, one.until = old.state, old.by, old.until
            path = layout.error(one.fingerprint)
            found = self._mend(path, f"{what}, {one.count} failures are known", "counted anew",
                               lambda p=path, o=one: self._regroup(p, o))  # fmt: skip
            yield replace(found, grave=False)

    def _regroup(self, path: str, one: failures.Group) -> None:
        try:
            self.disk.remove(path)
        except Missing:
            pass  # it has none
        self.disk.write(path, failures.encode(one))

    # How things are mended.

    def _mend(self, path: str, what: str, done: str, act: object) -> Finding:
        if self.repair and callable(act):
            act()
            return Finding(path, what, done)
        return Finding(path, what)

    def _lost(self, path: str, problem: Unreadable) -> Finding:
        """It may be whole, so it stays; what it says is not known, so no more is mended."""
        self.repair = False
        return Finding(path, f"{problem}; nothing is mended until it can be")

    def _away(self, path: str, why: str, *, file: bool = False) -> Finding:
        if not self.repair:
            return Finding(path, why)
        target = quarantine(self.disk, path, why, file=file)
        return Finding(path, why, f"moved to {target}" if target else "gone meanwhile")

    def _move(self, source: str, target: str) -> None:
        self.disk.make_dir(layout.parent_of(target))
        self.disk.move(source, target)
        self.disk.sync_dirs([layout.parent_of(target), layout.parent_of(source)])

    def _link(self, source: str, target: str) -> None:
        link_anew(self.disk, source, target)
        self.disk.sync_dirs([layout.parent_of(target)])

    def _dated(self, above: str) -> Iterator[str]:
        for date in look.names(self.disk, above):
            for name in look.names(self.disk, f"{above}/{date}"):
                yield f"{above}/{date}/{name}"


def check(disk: Disk, *, repair: bool = False) -> Iterator[Finding]:
    """Every finding of one pass; after a pass with `repair` a second one mends nothing."""
    yield from Fsck(disk, repair=repair).run()


def _rank(path: str) -> tuple[int, int, str]:
    """Which of the places of a task counts: by its state, then by its latest attempt."""
    return RANK.index(path.partition("/")[0]), -look.entry_at(path).attempt, path


def _is_place(path: object) -> bool:
    """Whether a path, as a record names one, is where an entry may stand."""
    parts = path.split("/") if isinstance(path, str) else []
    return len(parts) > 1 and parts[0] in layout.STATES and not {"", ".", ".."} & set(parts)


__all__ = ["Finding", "check"]
