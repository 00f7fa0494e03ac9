"""What lies in the directories of a spool and is not its owner's: spoold cannot work with it.

A restore by root leaves such things, and one on a machine where users have other numbers.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from spool import layout, modes
from spool.probes import BAD, OK, Check, kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.folders import Folder, Held

# What spoold alone makes; elsewhere there is what writers, handlers and parents have made as well.
OURS = (
    *layout.STATES,
    layout.ATTEMPTS,
    layout.IDS,
    layout.CHECKPOINTS,
    layout.ERRORS,
    layout.JOURNAL,
    layout.NODES,
    layout.PACKED,
    layout.KEYS,
)
MOST, SAMPLE = 1000, 20  # entries of a directory that are seen, files of them that are looked at
DEPTH = 8


def check(top: Folder, whose: int, *, is_shared: bool, fix: bool) -> Iterator[Check]:
    """A finding for each directory that holds such things; with `fix` root gives them all to `whose`.

    A look is at no more than a sample. What writers drop into a spool of several users is theirs.
    """
    unsafe = [one for one in kernel() if one.level == BAD]  # a name may be that of a file elsewhere
    mend = fix and os.geteuid() == 0 and not unsafe
    remedy = "; ".join([*(one.remedy for one in unsafe), "spool doctor --fix, as root"])
    linked = Linked()
    for name in (*layout.TREE, *layout.MADE_WHEN_NEEDED):
        if is_shared and name in modes.BOXES:
            continue
        place, first, count = top.at(name), "", 0
        try:
            for path in _each(top, name, whose, linked if mend else None):
                first, count = first or path, count + 1
        except (FileNotFoundError, NotADirectoryError):
            continue  # that is told where the tree is looked at
        except OSError as problem:
            yield Check(BAD, f"{place}: {problem.strerror}", remedy)
        if not count:
            continue
        more = f" and {count - 1} more in {place}" * (count > 1)
        if mend:
            yield Check(OK, f"{first}{more} belonged to others, now to uid {whose}")
        else:
            yield Check(BAD, f"{first}{more}: not of uid {whose}, who serves the spool", remedy)
    if linked.due:
        (first, *others) = linked.due.values()
        more = f" and {len(others)} more" * bool(others)
        what = f"{first}{more}: not of uid {whose}, and left, as it may have a name outside the spool"
        place = shlex.quote(first)
        way = f"find / -xdev -samefile {place}; if uid {whose} may have it, chown {whose} {place}"
        yield Check(BAD, what, way)


class Linked:
    """Files of others with several names: one is given away when all of them have been seen here."""

    def __init__(self) -> None:
        self.due: dict[int, str] = {}  # by inode
        self._seen: Counter[int] = Counter()

    def all_seen(self, held: Held, *, stray: bool) -> bool:
        """Whether this is the last name of what is a stray by one of its names.

        A name that is moved meanwhile is seen twice: what others than its owner may write, and so give
        names, is never given away with several.
        """
        if not held.has_second_name:
            return stray
        inode = held.found.st_ino
        self._seen[inode] += 1
        if stray:
            self.due.setdefault(inode, held.path)
        if inode not in self.due or self._seen[inode] < held.found.st_nlink or held.found.st_mode & 0o022:
            return False
        del self.due[inode]
        return True


def _each(top: Folder, name: str, whose: int, linked: Linked | None) -> Iterator[str]:
    """The path of each stray; with `linked` after it was given to `whose`."""
    with top.inner(name) as place:
        for folder, one in _others(place, whose, sampled=linked is None):
            with suppress(FileNotFoundError), folder.held(one) as held:
                stray = name in OURS or held.found.st_uid == 0
                if linked is not None and (stray := linked.all_seen(held, stray=stray)):
                    os.chown(held.by, whose, folder.info("").st_gid)
                if stray:
                    yield held.path


def _others(at: Folder, whose: int, *, sampled: bool, depth: int = 0) -> Iterator[tuple[Folder, str]]:
    """What is not of `whose`, as (directory, name), directories before what is in them."""
    left = SAMPLE
    with os.scandir(at.fd) as entries:
        for entry in islice(entries, MOST if sampled else None):
            inner = entry.is_dir(follow_symlinks=False)
            left -= not inner
            if sampled and left < 0 and not inner:
                continue
            with suppress(OSError):  # gone, or closed to this user
                if at.info(entry.name).st_uid != whose:
                    yield at, entry.name
                if inner and depth < DEPTH:
                    with at.inner(entry.name) as folder:
                        yield from _others(folder, whose, sampled=sampled, depth=depth + 1)
