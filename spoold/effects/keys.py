"""Taking keys: by a link that only one can make, never by a look first.

A task takes its key in these steps; after a crash between two of them:

    step            what is on disk if we die after it         who cleans up, and how
    1 stage         running/NODE/.ID.key                       recovery removes it
    2 link          keys/HASH is the same file                 the same: with one name, and a holder
                                                               nobody knows, the key is free again;
                                                               the action still in incoming/ takes it
    3 the task comes in (or back), as the store does it: keys/ is synced before the task is placed
    4 settle        .ID.key is gone                            nothing to do

A key whose holder has ended is taken over under keys/locks/HASH, which again only one can make. One
that a crash has left names its node, which removes it when it is in its way. Between the removal of
the old file and the link of the new one somebody else may be faster, and has the key then.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from spool import keys, layout
from spool.disk import Exists, Missing
from spool.place import COMING, UNFINISHED, WINDOW, Rival, mark_of
from spool.quarantine import quarantine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spool.disk import Disk
    from spool.owncopy import Task

log = logging.getLogger("spoold")
TWO = "`spool fsck` tells whether another one that has not ended has it as well"
SLICE = 100
BUSY = "busy"
OLD = 3_600_000_000  # us that a file of keys/ is left alone by `sweep`


class Keys:
    """Takes keys for one node. `open`: tasks that have taken theirs and are not in place yet."""

    def __init__(self, disk: Disk, node: str) -> None:
        self.disk = disk
        self.node = node
        self.open: dict[str, str] = {}  # id: hash of its key
        self._made = False

    def take(
        self, task: Task, now: int, over: frozenset[str] = frozenset(), *, durable: bool = True
    ) -> Rival | None:
        """None where the task has its key now, else who has it; DiskFull. `over`: see TakeKeys."""
        task_id, mark = task.id or "", mark_of(task.key or "", task.writer)
        path, staged = layout.key(mark), self._staged(task_id)
        self._make(durable=durable)
        self._stage(task, staged)
        while True:
            try:
                self.disk.link(staged, path)
                found = None
            except Exists:
                found = self._take_over(mark, task_id, now, over)
            if found is None or found.stand != BUSY:
                break
        if found is None:
            self.open[task_id] = mark
            return None
        self._remove(staged)
        # Another node may have taken it in meanwhile: it has its key, and is to keep it.
        return None if (found.id, found.stand) == (task_id, UNFINISHED) else found

    def give_back(self, ids: Iterable[str]) -> None:
        """These tasks do not come in: what `take` took for them is free."""
        for task_id in ids:
            mark = self.open.get(task_id)
            if mark is None:
                continue
            ours, found = self.disk.info(self._staged(task_id)), self.disk.info(layout.key(mark))
            if ours is not None and found is not None and ours.ino == found.ino:
                self._remove(layout.key(mark))  # nobody takes over what has two names
            self._remove(self._staged(task_id))
            del self.open[task_id]

    def settle(self, ids: Iterable[str]) -> None:
        """These tasks are in place, or will never be: the files of their keys have one name."""
        for task_id in ids:
            if task_id in self.open:
                self._remove(self._staged(task_id))
                del self.open[task_id]

    def sweep(self, now: int) -> Iterator[None]:
        """Files of keys that have long been free go."""
        for names in self.disk.slices(layout.KEYS, SLICE):
            for name in names:
                path = layout.key(name)
                info = self.disk.info(path)
                if path != layout.KEY_LOCKS and info is not None and now - info.ctime_us > OLD:
                    self._sweep(name, now)
            yield

    def unlock(self) -> None:
        """What this node had locked is free: it is dead, and who brings its tasks back says so."""
        for names in self.disk.slices(layout.KEY_LOCKS, SLICE):
            for path in (f"{layout.KEY_LOCKS}/{name}" for name in names):
                if keys.node_of(self.disk, path) == self.node:
                    self._remove(path)

    # How it is done.

    def _stage(self, task: Task, staged: str) -> None:
        if task.id in self.open:
            return  # taken before the disk was full, or before what stood in its way was dealt with
        with contextlib.suppress(Missing):
            self.disk.remove(staged)
        self.disk.write(staged, keys.encode(task, self.node))

    def _take_over(self, mark: str, task_id: str, now: int, over: frozenset[str]) -> Rival | None:
        """The key has a file: ours, of somebody who has it, or of somebody who had it."""
        claim, ours = keys.read(self.disk, layout.key(mark)), self.disk.info(self._staged(task_id))
        if claim is None or ours is None:
            return Rival("", BUSY)
        if claim.ino == ours.ino:
            return None
        if (found := self._rival(claim, task_id, now, over)) is not None:
            return found
        with self._lock(mark) as locked:
            if not locked:
                return Rival(claim.id, COMING)
            again = keys.read(self.disk, layout.key(mark))
            same = again is not None and again.ino == claim.ino
            if again and same and not self._rival(again, task_id, now, over):
                self._make_room(again, layout.key(mark), task_id)
        return Rival("", BUSY)  # the file is gone, or another one: link again

    def _make_room(self, claim: keys.Claim, path: str, task_id: str) -> None:
        if claim.id:
            self._remove(path)
            return
        aside = quarantine(self.disk, path, f"does not say who has a key; {task_id} took it")
        if aside is not None:
            log.error("%s is damaged, and is %s now: %s takes the key; %s", path, aside, task_id, TWO)

    def _rival(self, claim: keys.Claim, task_id: str, now: int, over: frozenset[str]) -> Rival | None:
        found = keys.rival(self.disk, claim, now)
        if found is None or (found.stand != COMING and found.id in over):
            return None
        return None if (found.id, found.stand) == (task_id, WINDOW) else found

    @contextlib.contextmanager
    def _lock(self, mark: str) -> Iterator[bool]:
        """Only one node at a time takes a key over, or away."""
        path = layout.key_lock(mark)
        try:
            if keys.node_of(self.disk, path) in (self.node, ""):
                self._remove(path)  # left by a crash: nobody but us takes keys for this node
            self.disk.write(path, keys.encode_lock(self.node))
        except Exists:
            yield False
            return
        try:
            yield True
        finally:
            self._remove(layout.key_lock(mark))

    def _sweep(self, mark: str, now: int) -> None:
        claim = keys.read(self.disk, layout.key(mark))
        if claim is None or keys.rival(self.disk, claim, now) is not None:
            return
        with self._lock(mark) as locked:
            again = keys.read(self.disk, layout.key(mark)) if locked else None
            if again is not None and keys.rival(self.disk, again, now) is None:
                self._remove(layout.key(mark))

    def _make(self, *, durable: bool) -> None:
        if not self._made:
            if self.disk.info(layout.KEY_LOCKS) is None:
                self.disk.make_dir(layout.KEY_LOCKS)
                if durable:
                    self.disk.sync_dirs(["."])
            self._made = True

    def _staged(self, task_id: str) -> str:
        return f"{layout.RUNNING}/{self.node}/.{task_id}.key"

    def _remove(self, path: str) -> None:
        with contextlib.suppress(Missing):
            self.disk.remove(path)
