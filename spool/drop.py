"""An action is dropped into incoming/: whole and durable, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool import layout
from spool.closed import as_user, who_drops
from spool.disk import FULL, DiskFull, Missing
from spool.errors import Full, Invalid, NotAllowed, NotASpool
from spool.names import is_id, is_task, new_id

if TYPE_CHECKING:
    from spool.disk import Disk, RealDisk


class Box(Struct, frozen=True):
    """Where a writer prepares a file and where he drops it; `blind`: he may not list it.

    `whose`: the uid of another user whose own spool it is, and who could not read what is dropped.
    """

    tmp: str = layout.TMP
    incoming: str = layout.INCOMING
    blind: bool = False
    whose: int | None = None


OWN = Box()
SHARED = "are not taken in a spool of several users: give a path in args"


def box_of(disk: RealDisk) -> Box:
    """The box for this user; where it is not his spool, what he writes is for another user to read."""
    info, uid = disk.info(layout.INCOMING), os.geteuid()
    if info is None or info.uid == uid:
        return OWN
    if not is_shared(disk):
        return Box(whose=info.uid)
    disk.file_mode, disk.others = 0o640, True
    own = f"{layout.WRITERS}/{uid}"
    found = disk.info(own)
    if found is not None and found.mode & (stat.S_ISGID | stat.S_ISVTX) == stat.S_ISGID:
        return Box(own, own)  # any other is left alone
    return Box(blind=True)


def is_shared(disk: RealDisk) -> bool:
    """Whether a spool is one of several users, as its box says: who drops need not see spool.toml."""
    info = disk.info(layout.INCOMING)
    return info is not None and (os.fstat(disk.fd).st_uid != info.uid or bool(info.mode & stat.S_ISGID))


class Drops:
    """Files that become visible together: `stage` each, then `publish`, or `abandon` all of them.

    In this order; after a crash between two steps, this is what is left:

        step       what is on disk if we die after it          who cleans up, and how
        1 write    dot files in tmp/                           spoold puts them away after a day
        2 sync     the same, but whole after a power cut       the same
        3 move     actions in incoming/, some or all           nobody need: they are taken in; the
                                                               writer has not been told so
        4 sync     all of them, after a power cut too          nothing to do: now the ids are given

    Without `durable` steps 2 and 4 are left out.
    """

    def __init__(self, disk: Disk, root: str, *, durable: bool, box: Box = OWN) -> None:
        if box.whose is not None:
            way = f"{as_user(box.whose)}, or make one for several users with `spool init --system`"
            raise NotAllowed(f"{root} is the own spool of uid {box.whose}, who could not read it: {way}")
        self.disk = disk
        self.root = root
        self.box = box
        self.durable = durable
        self._staged: dict[str, str] = {}
        self._moved: list[str] = []
        self.brings = False  # files that come with tasks

    def stage(self, name: str, data: bytes) -> None:
        """Prepare one file that is to be incoming/NAME. Full, NotAllowed, NotASpool."""
        path = f"{self.box.tmp}/.{new_id()}.json"
        self._staged[path] = f"{self.box.incoming}/{name}"
        try:
            self.disk.write(path, data)
        except OSError as problem:
            del self._staged[path]
            raise self._told(problem) from None

    def attach(self, task_id: str, name: str, source: str) -> None:
        """Copy a file that is to come with a task, before its action is staged. Full, OSError.

        A name or id that is none is left to the checks of the action.
        """
        if not is_id(task_id) or not is_task(name):
            return
        if self.box is not OWN:
            raise Invalid("files", None, SHARED)
        path = f"{self.box.tmp}/.{new_id()}.given"
        with open(source, "rb") as given:
            try:
                self.disk.write(path, b"")
                self._staged[path] = layout.given(task_id, name)
                with open(os.path.join(self.root, path), "wb") as copy:
                    shutil.copyfileobj(given, copy, 1 << 20)
            except OSError as problem:
                full = problem.errno in FULL
                told = DiskFull(problem.errno, problem.strerror, path) if full else problem
                raise self._told(told) from None
        self.brings = True

    def publish(self) -> None:
        """All that was staged becomes visible. Full, NotAllowed, NotASpool."""
        try:
            if self.durable:
                self.disk.sync(self._staged)
            for path, target in self._staged.items():
                # What comes with a task may take the place of what an earlier drop of it waits with.
                again = path.endswith(".given") and self.disk.info(target) is not None
                self.disk.move(path, target)
                if not again:
                    self._moved.append(target)
            if self.durable:
                self._sync()
        except OSError as problem:
            raise self._told(problem) from None

    def _sync(self) -> None:
        """The names are on disk, also where the directory may not be opened (a blind box).

        There each file is synced once more: on ext4, XFS and Btrfs its new name goes with it. One that
        is gone has been taken in.
        """
        if not self.box.blind:
            self.disk.sync_dirs([self.box.incoming, *([self.box.tmp] if self.brings else [])])
            return
        for path in self._moved:
            try:
                self.disk.sync([path])
            except Missing:
                continue

    def abandon(self) -> None:
        """Take back what is not spoold's yet; after `publish` failed it may have some already."""
        for path in (*self._staged, *self._moved):
            try:
                self.disk.remove(path)
            except OSError:
                pass  # moved on, or the disk takes nothing any more: tmp/ is cleaned by spoold

    def _told(self, problem: OSError) -> Exception:
        name = problem.filename or ""
        place = f"{self.root}/{layout.parent_of(name) or name}".rstrip("/")
        if isinstance(problem, DiskFull):
            begun = "what spoold has not taken in already is taken back"
            told = begun if self._moved else "nothing was submitted"
            return Full(f"{place}: {problem.strerror}; {told}")
        if isinstance(problem, Missing):
            why = f"has no {self.box.tmp}/ or {self.box.incoming}/ any more; mend it with `spool init`"
            return NotASpool(self.root, why)
        if isinstance(problem, PermissionError) or problem.errno == errno.EROFS:
            denied = isinstance(problem, PermissionError) and self.box.blind
            who = who_drops(self.root) if denied else f": {problem.strerror}"
            return NotAllowed(f"{place}: uid {os.geteuid()} may not write there{who}")
        return problem


def attached(doc: Mapping[str, Any], drops: Drops) -> dict[str, Any]:
    """A task with the names of its `files` (name -> path), which are copied into tmp/."""
    files = doc.get("files")
    if not isinstance(files, Mapping):
        return dict(doc)
    for name, source in files.items():
        drops.attach(str(doc["id"]), name, os.fspath(source))
    return {**doc, "files": list(files)}
