"""Puts groups of transitions on disk, in an order that survives any cut.

For each group, in this order; after a crash between two steps, `recovery` does what is said here:

    step            what is on disk if we die after it         who cleans up, and how
    1 stage         dot files in running/NODE/, files of       recovery removes the dot files; actions are
                    tasks linked into files/                   still in incoming/ (their files in tmp/
                                                               too), attempts count as lost
    2 know          own copies are in ids/ as well             recovery puts them into pending/; an
                                                               action still in incoming/ is known by
                                                               its id and dropped
    3 journal       lines for what may not have happened       readers: the same line comes again
    4 log           what comes next stands in the redo log     after a power cut `replay` does 5 again,
                                                               else the same as after 3
    5 establish     own copies at their place; claims;         a task in running/ with a record is
                    records linked into attempts/ (the         rolled forward (6-8), without one its
                    commit point of an end)                    attempt is lost
    6 leave         ended tasks stand in their new place,      recovery publishes the staged events
                    refused actions in rejected/
    7 announce      events are in the outboxes                 an action still in incoming/ is known
    8 clear         actions are gone from incoming/, their     nothing to do
                    files from tmp/

The redo log (`effects/redo`) makes 5 to 8 durable with one write before they are done. Where there is
none (a spool that several machines share, a second daemon), where a group is too large for it or says
what is paused, and for refused files, files and directories are synced instead: the staged files and all
names at 4, names again after 5 and after 6. Then names are synced before anything relies on
them: an entry never stands without its name in ids/, and no task is established or ended without its
event. `relaxed` durability leaves out the log and all syncs, and changes nothing else.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from itertools import accumulate, count
from secrets import randbelow
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

from spool import handed, layout, look, records
from spool.actions import encode_task
from spool.disk import DiskFull, Exists, Missing, NotRegular, TooLarge, move_file, write_anew
from spool.errors import Invalid
from spool.names import PRIORITIES, BadName, date_of
from spool.quarantine import quarantine
from spoold.core import order
from spoold.core.table import CORRUPT
from spoold.effects import lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from spool.disk import Disk, Info
    from spool.owncopy import Task
    from spoold.core.values import Forward, Message, Move, Refuse, Rows, Source, Undone
    from spoold.effects.group import Group
    from spoold.effects.redo import Redo

    Verb: TypeAlias = Callable[[str, str], None]

log = logging.getLogger("spoold")
KEPT = (errno.EPERM, errno.EACCES, errno.EBUSY)  # chattr +i, a directory that is not ours, a mount
SAME = 1 << 26  # bytes of a file that are read to see whether it says the same
TRIES = 100  # names of an event that are tried in their order
MINUTE = 60_000_000  # us
ENDING = "ending"  # why what waits stands in running/ for a moment


class Store:
    """Performs groups on a disk for one node."""

    def __init__(self, disk: Disk, node: str, *, durable: bool) -> None:
        self.disk = disk
        self.node = node
        self.durable = durable
        self.redo: Redo | None = None
        self.shared = False  # other nodes may want what waits here
        self.stage_dir = f"{layout.RUNNING}/{node}"
        self.immovable: set[tuple[str, int]] = set()  # done with, and still in incoming/: path, inode
        self.ids_lost: Callable[[], None] = lambda: None  # is called where names in ids/ were deleted
        self._made: set[str] = set()
        self._sizes: dict[str, int] = {}  # of journals
        self._hollow: set[tuple[str, int, int]] = set()  # empty, where an action goes
        self._steps = (
            self._stage,
            self._know,
            self._journal,
            self._log,
            self._establish,
            self._sync_dirs,
            self._leave,
            self._sync_dirs,
            self._announce,
            self._clear,
        )
        self.established = 5

    def perform(
        self, group: Group, now: int, established: Callable[[Group], None] | None = None
    ) -> list[Undone]:
        """All steps of a group, or DiskFull with the group ready to go on where it stopped.

        `established` is called once, after step 5: handlers may start. Returns what did not happen.
        """
        while group.step < len(self._steps):
            self._steps[group.step](group, now)
            group.step += 1
            if group.step == self.established and established is not None:
                established(group)
        if group.logged and self.redo is not None:
            self.redo.done()
        return group.undone

    def lapse(self, group: Group, now: int) -> None:
        """Of a group that waits for room: what is to be dropped or to fail by now does not start."""
        if group.step >= self.established:
            return
        placed = {m.entry.id for m in group.moves if (group.step, id(m)) in group.done}
        for move in list(group.moves):
            entry = move.entry
            if move.event == "claim" and order.has_missed(entry, now) and entry.id not in placed:
                self._unstage(group, group.lapse(move))

    def become(self, *, durable: bool) -> None:
        """Another durability from now on; what was done without the log must not be mixed with it."""
        if durable != self.durable:
            self.settle()
        self.durable = durable

    def settle(self) -> None:
        """Everything that was done is on disk; the log, where there is one, holds nothing to replay."""
        if self.redo is not None:
            self.redo.settle()

    def end_log(self) -> None:
        """There are others from now on: what they do must not be undone by a replay."""
        self.shared = True
        if self.redo is not None:
            self.redo.settle()
            self.redo.drop()
            self.redo = None

    # The steps.

    def _stage(self, group: Group, now: int) -> None:
        del now
        self._ensure(group, f"{self.stage_dir}/x")
        for move in list(group.moves):
            if id(move) in group.gone:
                continue  # undone with another one of its action
            if move.mark is not None:  # who has it is on disk before the task is
                group.files[layout.key(move.mark)] = None
                group.dirs[layout.KEYS] = None
            if move.body is not None:
                self._stage_task(group, move, move.body)
        if not group.named:  # once: an earlier try has staged them under these names
            taken: set[str] = set()
            group.tells = [self._untold(message, taken) for message in group.tells]
            group.named = True
        for message in self._messages(group):
            if self._box(message.parent):
                group.dirs[layout.OUTBOX] = None
            self._write(group, self._staged(message), records.encode(message.content))
        for rows in group.last_rows():  # the last rows say it all
            self._write(group, self._rows_stage(rows), orjson.dumps(rows.written()))
        for number, refusal in enumerate(group.refusals):
            self._write(group, self._reason_stage(number), lines.reason(refusal))

    def _journal(self, group: Group, now: int) -> None:
        text = [lines.transition(self.node, move, now) for move in group.moves]
        text += [lines.refusal(self.node, refusal, now) for refusal in group.refusals]
        text += [lines.other(self.node, rows.note, now) for rows in group.rows]
        text += [lines.other(self.node, {"event": n.event, **n.facts}, now) for n in group.notes]
        if not text:
            return
        path = layout.journal(self.node, now)
        self._ensure(group, path)
        size = self._sizes.pop(path, None)  # until the lines are there, all of them
        if size is None:
            group.dirs[layout.parent_of(path)] = None
            found = self.disk.info(path)
            size = 0 if found is None else found.size
            if size and self._is_torn(path, size):
                text.insert(0, b"\n")  # what follows stays whole
        lines_ = b"".join(text)
        try:
            self.disk.append(path, lines_)
        except Missing:
            if not self._tidied(group, path):
                raise
            size = 0
            self.disk.append(path, lines_)
        self._sizes[path] = size + len(lines_)
        group.files[path] = None
        group.lines = [(path, size, lines_)]

    def _is_torn(self, path: str, size: int) -> bool:
        """Whether the last line of a journal has no end, or may have none."""
        try:
            return self.disk.read(path, 1, size - 1) != b"\n"
        except OSError:
            return True

    def _log(self, group: Group, now: int) -> None:
        """What is to happen is on disk: in the log, or staged where it can be found."""
        del now
        if not self.durable or not group.files:
            return
        if self.redo is not None:
            if group.given:
                self.disk.sync(group.given, group.dirs)
            if taken := [layout.key(m.mark) for m in group.moves if m.mark is not None]:
                self.disk.sync(taken, [layout.KEYS])
            # What is paused is not in the log, which would have its action cleared all the same.
            group.logged = not group.rows and self.redo.add(self._record(group))
            group.expected = len(group.undone)
            if not group.logged:
                self.redo.settle()  # it goes without the log, which knows nothing older then
        if not group.logged or group.refusals:
            self.disk.sync(group.files, [*group.dirs, self.stage_dir])
        group.dirs = {}

    def _record(self, group: Group) -> dict[str, Any]:
        """What replay needs to do step 5 of a group again, and to know what it cleared."""
        return {
            "stage": self.stage_dir,
            "tasks": [
                [m.entry.id, encode_task(m.body).decode()] for m in group.moves if m.body is not None
            ],
            "moves": [[m.entry.id, m.source, m.target] for m in group.moves],
            "ends": [
                [m.entry.id, layout.record(m.entry.id, m.record["attempt"]), self._staged(m.message)]
                for m in group.moves
                if m.record is not None and m.message is not None
            ],
            "events": [
                [
                    self._staged(message),
                    f"{layout.OUTBOX}/{message.parent}/{lines.name_of(message)}",
                    records.encode(message.content).decode(),
                ]
                for message in self._messages(group)
            ],
            "lines": [[path, start, text.decode()] for path, start, text in group.lines],
            "drops": [
                [os.fsencode(d.source.path).decode("latin-1"), d.source.ino, d.source.ctime]
                for d in group.drops
            ],
        }

    def _establish(self, group: Group, now: int) -> None:
        del now
        for move in list(group.moves):
            target = group.targets.get(id(move))
            if target is None or id(move) in group.gone or (group.step, id(move)) in group.done:
                continue  # done by an earlier one, undone with it, or done already
            if move.body is not None:
                self._take_in(group, move, target)
            elif move.record is not None:
                self._commit(group, move)
            else:
                self._carry(group, move, target)
            group.done.add((group.step, id(move)))
        for rows in group.last_rows():
            if (group.step, id(rows)) not in group.done:
                self.disk.move(self._rows_stage(rows), rows.path)
                group.done.add((group.step, id(rows)))
                group.dirs[layout.NODES] = None
        for number, refusal in enumerate(group.refusals):
            reason = f"{self._refuge(group, refusal)}{layout.REASON}"
            self._reason_first(group, self._reason_stage(number), reason)
            group.dirs[layout.parent_of(reason)] = None
        if group.files:
            group.dirs[self.stage_dir] = None
        if group.logged and len(group.undone) > group.expected and self.redo is not None:
            late = group.undone[group.expected :]
            self.redo.add({"undone": [[u.move.entry.id, u.move.target] for u in late]})
            group.expected = len(group.undone)

    def _sync_dirs(self, group: Group, now: int) -> None:
        del now
        if self.durable and group.dirs and (not group.logged or group.refusals):
            try:
                self.disk.sync_dirs(group.dirs)
            except Missing:  # what a task has left was empty, and another node has tidied it away
                self.disk.sync_dirs([path for path in group.dirs if self.disk.info(path) is not None])
        group.dirs = {}

    def _leave(self, group: Group, now: int) -> None:
        del now
        for move in group.moves:
            if move.record is not None and move.source is not None:
                self.leave(group, group.taken.get(id(move), move.source), move.target, move.entry.id)
            elif move.after == CORRUPT and self.is_aside(move.target, move.entry.id):
                group.dirs[layout.parent_of(layout.own_copy(move.entry.id))] = None
        for refusal in group.refusals:
            target = self._refuge(group, refusal)
            self._take_away(refusal.source, target)
            group.dirs[layout.parent_of(target)] = None

    def _announce(self, group: Group, now: int) -> None:
        del now
        for message in self._messages(group):
            if (group.step, id(message)) not in group.done:
                self.announce(self._staged(message), message.parent, lines.name_of(message))
                group.done.add((group.step, id(message)))

    def _clear(self, group: Group, now: int) -> None:
        del now
        for source in group.given.values():
            if source.startswith(f"{layout.TMP}/") and self.disk.info(source) is not None:
                self.disk.remove(source)
        for drop in group.drops:
            self._take_away(drop.source, None)

    # What the steps are made of; recovery uses the public ones as well.

    def leave(self, group: Group | None, source: str, target: str, task_id: str) -> None:
        """A task whose end is on record goes where the record says."""
        try:
            self._name(self.disk.move, group, source, target)
        except Missing:
            # Somebody took the entry away, or it has been moved already: the record decides. A task
            # that stands somewhere else (a second link) does not get a second place.
            known = self.disk.info(layout.own_copy(task_id))
            if self.disk.info(target) is None and known is not None and known.nlink == 1:
                self._name(self.disk.link, group, layout.own_copy(task_id), target)
        if group is not None:
            group.dirs[layout.parent_of(target)] = None
            group.dirs[layout.parent_of(source)] = None

    def recorded(self, path: str, submitted: str | None = None) -> dict[str, Any] | None:
        """The record of an attempt; a damaged one (a power cut without durability) is none.

        Nor is that of an earlier task, `submitted` at another time, whose id came free.
        """
        try:
            found = records.decode(self.disk.read(path, records.RECORD_LIMIT))
            look.entry_at(found["entry"])
        except Missing:
            return None
        except (Invalid, BadName, NotRegular, TooLarge, KeyError, AttributeError) as problem:
            self.quarantine(path, f"it is no record, or does not tell where its task went: {problem}")
            return None
        if submitted is not None and found.get("submitted_at", submitted) != submitted:
            self.quarantine(path, "it is of an earlier task of this id")
            return None
        return found

    def put(self, staged: str, target: str) -> None:
        """A staged own copy gets its place."""
        self._name(self.disk.move, None, staged, target)

    def announce(self, staged: str, parent: str, name: str) -> None:
        """An event becomes visible to its parent, in an outbox whose own name is on disk."""
        box = f"{layout.OUTBOX}/{parent}"
        if self._box(parent) and self.durable:
            self.disk.sync_dirs([layout.OUTBOX])
        try:
            self.disk.move(staged, f"{box}/{name}")
        except Missing:
            if self.disk.info(box) is not None:
                raise
            self._made.discard(box)  # its parent has removed it
            self.announce(staged, parent, name)
        except IsADirectoryError:  # a reader of this outbox has made it, who could have read it as well
            self.disk.remove(staged)

    def _box(self, parent: str) -> bool:
        """The outbox of a parent is there; whether its name is yet to be synced."""
        box = f"{layout.OUTBOX}/{parent}"
        if box in self._made:
            return False
        self._ensure(None, f"{box}/x")
        return True

    def is_aside(self, path: str, task_id: str) -> bool:
        """Whether a damaged task is in corrupt/; then its id is known no more, and its key is free.

        Its records follow it: they are not those of a task that comes under its id.
        """
        found, own = self.disk.info(path), self.disk.info(known := layout.own_copy(task_id))
        if found is not None and own is not None and own.ino == found.ino:
            for number in look.numbered(self.disk, task_id):
                self.quarantine(layout.record(task_id, number), f"it is of {path}")
            self.disk.remove(known)
        return found is not None

    def quarantine(self, path: str, why: str) -> None:
        """What is damaged is kept in corrupt/, with the reason beside it."""
        quarantine(self.disk, path, why)

    def forward(self, action: Forward) -> bool:
        """An action that another node is to carry out; where it is gone, that has happened.

        False while an earlier one of this name waits for that node. What is empty there is what a crash
        has left, unless somebody else is about to move his there: it counts when it is seen again.
        """
        source = action.source.path
        base = layout.dropped_as(source.rpartition("/")[2])
        target = f"{layout.INCOMING}/{layout.FOR}{action.node},{base}"
        there = self.disk.info(target)
        left = (target, there.ino, there.ctime_us) if there is not None and not there.size else None
        try:
            if left in self._hollow:
                self.disk.move(source, target)
            else:
                move_file(self.disk, source, target)
        except Exists:
            self._hollow = {left} if left is not None else set()
            return False
        except DiskFull:
            return False
        except (Missing, NotADirectoryError, PermissionError):
            pass
        return True

    def tidy(self, today: str) -> None:
        """Shards of past days that are empty go."""
        for date in self.disk.names(layout.PENDING):
            if date >= today:
                continue
            for path in (
                *(f"{layout.PENDING}/{date}/{p}" for p in PRIORITIES),
                f"{layout.PENDING}/{date}",
            ):
                self._made.discard(path)
                self.disk.remove_dir(path)

    def _know(self, group: Group, now: int) -> None:
        """Every task that comes in gets its name in ids/, or is undone where another has it."""
        del now
        for move in [m for m in group.moves if m.body is not None]:
            own, known = layout.staged(self.stage_dir, move.entry.id), layout.own_copy(move.entry.id)
            try:
                self._name(self.disk.link, group, own, known)
            except Exists:
                found, ours = self.disk.info(known), self.disk.info(own)
                if found is not None and ours is not None and found.ino != ours.ino:
                    if found.nlink > 1:
                        self.disk.remove(own)
                        group.files.pop(own, None)
                        # Another node was faster with the same id.
                        self._unstage(group, group.undo(move, "clash"))
                        continue
                    # Taken in before, but its entry never got its place, or was removed by hand.
                    self.disk.remove(known)
                    self.disk.link(own, known)
            group.dirs[layout.parent_of(known)] = None

    def _stage_task(self, group: Group, move: Move, task: Task) -> None:
        try:
            self._bring(group, move.entry.id, task)
            self._write(group, layout.staged(self.stage_dir, move.entry.id), encode_task(task))
        except DiskFull:
            self._leave_out(group, move, "full")
        except Missing:
            self._leave_out(group, move, "gone")  # a file that was to come with it: its action is refused

    def _leave_out(self, group: Group, move: Move, why: str) -> None:
        """All tasks of an action come in, or none: those that were staged are undone as well."""
        for one in group.together(move):
            own = layout.staged(self.stage_dir, one.entry.id)
            if own in group.files:
                self.disk.remove(own)
                del group.files[own]
            if one.body is not None and one.body.files:
                self._take_back(group, layout.files(one.entry.id))
            group.undo(one, why)

    def _take_back(self, group: Group, folder: str) -> None:
        """What was brought goes from its place, as long as it stands where it came from."""
        for target, source in [*group.given.items()]:
            if layout.parent_of(target) != folder:
                continue
            there, origin = self.disk.info(target), self.disk.info(source)
            if there is not None and origin is not None and there.ino == origin.ino:
                self.disk.remove(target)
            del group.files[target], group.given[target]
        if self.disk.remove_dir(folder):
            group.dirs.pop(folder, None)

    def _bring(self, group: Group, task_id: str, task: Task) -> None:
        """Files that come with a task stand at their place before it does; Missing.

        Their other names go when all is on disk, as its action does: a rename could lose both.
        """
        folder = layout.files(task_id)
        if task.files:
            self.disk.make_dir(folder)
            group.dirs |= dict.fromkeys((folder, layout.parent_of(folder), layout.FILES, "."))
        for name in task.files:
            source, target = layout.given(task_id, name), f"{folder}/{name}"
            if task.replay_of is not None and self.disk.info(source) is None:  # else it was submitted so
                source = f"{layout.files(task.replay_of)}/{name}"
            there, fresh = self.disk.info(target), self.disk.info(source)
            if there is not None and fresh is not None and there.ino != fresh.ino:
                self.disk.remove(target)  # of an action that was taken back before it was taken in
                there = None
            if there is None:
                self.disk.link(source, target)
            group.files[target] = None
            group.given[target] = source

    def _take_in(self, group: Group, move: Move, target: str) -> None:
        self._name(self.disk.move, group, layout.staged(self.stage_dir, move.entry.id), target)
        group.dirs[layout.parent_of(target)] = None

    def _commit(self, group: Group, move: Move) -> None:
        if move.message is None or move.record is None:
            return
        if not self._take(group, move):
            return
        path = layout.record(move.entry.id, move.record["attempt"])
        staged = self._staged(move.message)
        try:
            self._name(self.disk.link, group, staged, path)
        except Exists:
            found, ours = self.disk.info(path), self.disk.info(staged)
            standing = self.recorded(path, move.record.get("submitted_at"))
            if standing is None:
                self.disk.link(staged, path)
            elif found is None or ours is None or found.ino != ours.ino:
                # This attempt has ended in another way, before a crash or on another node: that stands.
                source = group.taken.get(id(move), move.source)
                self._unstage(group, group.undo(move, "gone"))
                if source is not None and layout.parent_of(source) == self.stage_dir:
                    self.leave(group, source, standing["entry"], move.entry.id)
        group.dirs[layout.parent_of(path)] = None

    def _take(self, group: Group, move: Move) -> bool:
        """Whether what is to end without having run, or is told of while it waits, is ours.

        Another node may start it, or move it, at this moment: who can rename its entry into his own
        directory has it, as with a claim. A crash before the next step leaves it there: `recover` puts
        it back.
        """
        source = move.source
        if not self.shared or source is None or layout.parent_of(source) == self.stage_dir:
            return True
        entry = look.entry_at(source)
        target = layout.running(self.node, replace(entry, why=entry.why or ENDING))
        try:
            self._name(self.disk.move, group, source, target)
        except Missing:
            if self.disk.info(target) is None:  # else it was taken before the disk was full
                self._unstage(group, group.undo(move, "gone"))
                return False
        group.taken[id(move)] = target
        group.dirs[layout.parent_of(source)] = None
        return True

    def _carry(self, group: Group, move: Move, target: str) -> None:
        if move.source is None or move.source == target:
            return
        if move.after == CORRUPT:
            self._put_aside(group, move, move.source)
            return
        told = move.message is not None and layout.parent_of(target) != self.stage_dir
        if told and not self._take(group, move):
            return  # every node gives it the same name: who has it tells
        try:
            self._name(self.disk.move, group, group.taken.get(id(move), move.source), target)
        except Missing:
            if self.disk.info(target) is None:
                # Someone was faster: a person, or another node.
                self._unstage(group, group.undo(move, "gone"))
                return
        group.dirs[layout.parent_of(target)] = None
        group.dirs[layout.parent_of(move.source)] = None

    def _put_aside(self, group: Group, move: Move, source: str) -> None:
        """What is damaged goes to corrupt/, behind its reason."""
        if quarantine(self.disk, source, move.note["reason"], goes=move.target) is None:
            self._unstage(group, group.undo(move, "gone"))  # another node was faster, and tells
        group.dirs |= dict.fromkeys(map(layout.parent_of, (source, move.target)))

    def _unstage(self, group: Group, moves: list[Move]) -> None:
        ids = {m.entry.id for m in moves}
        late = [m for m in group.tells if m.event == "late" and m.id in ids]  # of what another one has
        group.tells = [m for m in group.tells if m not in late]
        for message in (*late, *(m.message for m in moves)):
            if message is not None and self.disk.info(self._staged(message)) is not None:
                self.disk.remove(self._staged(message))
                group.files.pop(self._staged(message), None)

    def _take_away(self, source: Source, target: str | None) -> None:
        """An incoming file goes, unless another one has come under its name meanwhile.

        Inode numbers are used again at once: only with its ctime does one tell a file from the next.
        That changes as well with its mode and its times, so that one that says the same is the same;
        and with a second name that goes.
        """
        path, found = source.path, handed.info(self.disk, source.path)
        if found is None or found.ino != source.ino:
            return
        if found.ctime_us != source.ctime and found.nlink == 1 and not self._says_so_still(source, found):
            return
        try:
            if target is None:
                self.disk.remove(path)
            else:
                self._keep_out_directories(found, target)
                self.disk.move(path, target)
        except (Missing, IsADirectoryError, NotADirectoryError):
            pass  # the writer took it back in this very moment, or put a directory there
        except OSError as problem:
            if problem.errno not in KEPT:
                raise
            self.immovable.add((path, source.ino))
            log.warning("%s is done with and cannot be removed: %s", ascii(path), problem.strerror)

    def _keep_out_directories(self, found: Info, target: str) -> None:
        """What a stranger puts there meanwhile is no directory, in which he would go on, without bounds.

        None is renamed to where a file is; until then, and after a crash, that is a second name of the
        reason.
        """
        reason = f"{target}{layout.REASON}"
        ours = self.disk.info(reason)
        if ours is not None and ours.uid != found.uid:
            with suppress(Exists):
                self.disk.link(reason, target)

    def _says_so_still(self, source: Source, found: Info) -> bool:
        try:
            data = handed.content(self.disk, source.path, found, SAME)
        except OSError:
            return False
        return source.says != 0 and handed.meaning(data) == source.says

    def _reason_first(self, group: Group, staged: str, target: str) -> None:
        """The reason is there before what it is about, whole, whenever it is seen."""
        try:
            self._name(self.disk.move, group, staged, target)
        except Missing:
            pass  # moved before the disk was full, in an earlier try of this group

    def _reason_stage(self, number: int) -> str:
        return f"{self.stage_dir}/.reason.{number}"

    def _write(self, group: Group, path: str, data: bytes) -> None:
        if path in group.files:
            return  # written before the disk was full, in an earlier try of this group
        write_anew(self.disk, path, data)
        group.files[path] = None

    def _name(self, verb: Verb, group: Group | None, source: str, target: str) -> None:
        """A file gets this name, by move or link, in a directory that is there."""
        self._ensure(group, target)
        try:
            verb(source, target)
        except Missing:
            if not self._tidied(group, target):
                raise
            verb(source, target)

    def _tidied(self, group: Group | None, target: str) -> bool:
        """Whether the directory of a target had gone, as packers on any node see to; now it is there."""
        place = layout.parent_of(target)
        if self.disk.info(place) is not None:
            return False
        while place:
            self._made.discard(place)
            place = layout.parent_of(place)
        self._ensure(group, target)
        return True

    def _ensure(self, group: Group | None, path: str) -> None:
        """The directory of a path is there, and (in a group) its own name will be synced."""
        place = layout.parent_of(path)
        if place in self._made:
            return
        found = self.disk.info(place)
        if found is None or stat.S_ISREG(found.mode):
            if place.startswith(f"{layout.IDS}/") and look.ids_are_lost(self.disk):
                self.ids_lost()  # somebody has deleted it in this very moment
            self._make_way(place)
            self.disk.make_dir(place)
            if group is not None:
                above = layout.parent_of(place)
                while above and above not in self._made:
                    group.dirs[above] = None
                    above = layout.parent_of(above)
                group.dirs[layout.parent_of(place) or "."] = None
        self._made.add(place)

    def _make_way(self, place: str) -> None:
        """A file that stands where a directory belongs goes out of the way."""
        for above in accumulate(place.split("/"), "{}/{}".format):
            found = self.disk.info(above)
            if found is not None and stat.S_ISREG(found.mode):
                quarantine(self.disk, above, "a file where a directory belongs", file=True)

    def _messages(self, group: Group) -> list[Message]:
        return [m.message for m in group.moves if m.message is not None] + group.tells

    def _staged(self, message: Message) -> str:
        return f"{self.stage_dir}/.{message.parent},{lines.name_of(message)}"

    def _rows_stage(self, rows: Rows) -> str:
        return f"{self.stage_dir}/.{rows.path.rpartition('/')[2].removesuffix('.json')}"

    def _refuge(self, group: Group, refusal: Refuse) -> str:
        """Where a refused file goes: under the best name that is free."""
        found = group.refuges.get(id(refusal))
        if found is None:
            folder = f"{layout.REJECTED}/{date_of(refusal.message.at)}"
            for name in lines.safe_names(
                layout.dropped_as(refusal.source.path.rpartition("/")[2]), refusal
            ):
                found = f"{folder}/{name}"
                if self._is_free(found) and found not in group.refuges.values():
                    break
            group.refuges[id(refusal)] = found or folder
        return group.refuges[id(refusal)]

    def _is_free(self, refuge: str) -> bool:
        """Whether nothing has this name, or a crash has left it to the reason beside it."""
        there, reason = self.disk.info(refuge), self.disk.info(f"{refuge}{layout.REASON}")
        return there is None or (reason is not None and there.ino == reason.ino)

    def _untold(self, message: Message, taken: set[str]) -> Message:
        """A refusal is named by its drop: where another one has this name, it is told 1 us later.

        Who may write into an outbox could have made all the next names. After some it is told within
        the minute, at a moment that nobody knows before; a second time then, if spoold dies just now.
        """
        first = message
        for number in count():
            path = f"{layout.OUTBOX}/{message.parent}/{lines.name_of(message)}"
            if message.event != "rejected":
                break
            found = None if path in taken else self.disk.info(path)
            if path not in taken and (found is None or self._says(path, found, message)):
                taken.add(path)
                break
            ahead = number + 1 if number < TRIES else randbelow(MINUTE)
            message = replace(first, at=first.at + ahead)
        return message

    def _says(self, path: str, found: Info, message: Message) -> bool:
        """Whether an event tells this already: it was told just before a crash."""
        told = records.encode(message.content)
        try:
            return found.size == len(told) and self.disk.read(path, len(told)) == told
        except OSError:  # gone, or whatever a reader of this outbox has put there
            return False
