"""What lies in the directories of a spool and is not its owner's: spoold cannot work with it.

A restore by root leaves such things, and one on a machine where users have other numbers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from spool import layout, modes
from spool.probes import BAD, OK, Check, kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

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
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check(root: str, whose: int, *, is_shared: bool, fix: bool) -> Iterator[Check]:
    """A finding for each directory that holds such things; with `fix` root gives them all to `whose`.

    A look is at no more than a sample. What writers drop into a spool of several users is theirs.
    """
    unsafe = [one for one in kernel() if one.level == BAD]  # a name may be that of a file elsewhere
    mend = fix and os.geteuid() == 0 and not unsafe
    remedy = "; ".join([*(one.remedy for one in unsafe), "spool doctor --fix, as root"])
    for top in (*layout.TREE, *layout.MADE_WHEN_NEEDED):
        if is_shared and top in modes.BOXES:
            continue
        first, count = "", 0
        try:
            for path in _each(f"{root}/{top}", whose, strict=top in OURS, mend=mend):
                first, count = first or path, count + 1
        except FileNotFoundError:
            continue
        except OSError as problem:
            yield Check(BAD, f"{root}/{top}: {problem.strerror}", remedy)
        if not count:
            continue
        more = f" and {count - 1} more in {root}/{top}" * (count > 1)
        if mend:
            yield Check(OK, f"{first}{more} belonged to others, now to uid {whose}")
        else:
            yield Check(BAD, f"{first}{more}: not of uid {whose}, who serves the spool", remedy)


def _each(top: str, whose: int, *, strict: bool, mend: bool) -> Iterator[str]:
    fd = os.open(top, FOLDER)
    try:
        for path, folder in _strays(fd, whose, strict=strict, sampled=not mend):
            if mend:
                gid = os.fstat(folder).st_gid
                with suppress(FileNotFoundError):
                    os.chown(path.rpartition("/")[2], whose, gid, dir_fd=folder, follow_symlinks=False)
            yield f"{top}/{path}"
    finally:
        os.close(fd)


def _strays(
    fd: int, whose: int, *, strict: bool, sampled: bool, below: str = ""
) -> Iterator[tuple[str, int]]:
    """Each as (path, descriptor of its directory), directories before what is in them.

    By descriptors, and no link is followed: the names may be changed meanwhile.
    """
    left = SAMPLE
    with os.scandir(fd) as entries:
        for entry in islice(entries, MOST if sampled else None):
            inner = entry.is_dir(follow_symlinks=False)
            left -= not inner
            if sampled and left < 0 and not inner:
                continue
            with suppress(OSError):  # gone, or closed to this user
                uid = os.stat(entry.name, dir_fd=fd, follow_symlinks=False).st_uid
                path = below + entry.name
                if uid != whose and (strict or uid == 0):
                    yield path, fd
                if inner and below.count("/") < DEPTH:
                    folder = os.open(entry.name, FOLDER, dir_fd=fd)
                    try:
                        more = _strays(folder, whose, strict=strict, sampled=sampled, below=f"{path}/")
                        yield from more
                    finally:
                        os.close(folder)
