"""A file that a stranger has handed in: looked at by its descriptor, so that no swap of names matters."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from spool.disk import Info, Missing, NotRegular, RealDisk, TooLarge

if TYPE_CHECKING:
    from spool.disk import Disk

CHUNK = 1 << 20


class Changed(OSError):
    """It is not what it was a moment ago: somebody writes to it, or has put another in its place."""


def read(root: int, path: str, known: Info, limit: int) -> bytes:
    """Its bytes, if it is still the regular file that `known` tells, before and after they are read.

    It is opened without being touched first (O_PATH): no device, FIFO or lease notices or stops us.
    Missing, NotRegular, TooLarge, Changed, PermissionError, BlockingIOError (somebody holds a lease).
    """
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError as problem:
        raise Missing(problem.errno, problem.strerror, path) from None
    try:
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode):
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        if facts(found) != known:
            raise Changed(errno.EAGAIN, "has changed", path)
        if found.st_size > limit:
            raise TooLarge(errno.EFBIG, f"more than {limit} bytes", path)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(f"/proc/self/fd/{place}", flags)  # the same inode, by way of the kernel
    finally:
        os.close(place)
    try:
        data = _bytes(file, limit, path)
        if facts(os.fstat(file)) != known or len(data) != known.size:
            raise Changed(errno.EAGAIN, "has changed", path)
    finally:
        os.close(file)
    return data


def content(disk: Disk, path: str, known: Info, limit: int) -> bytes:
    """What `read` reads of a file on a disk, Unreadable where that has lost it."""
    if not isinstance(disk, RealDisk):
        return own(disk, path, known, limit)
    try:
        return read(disk.fd, path, known, limit)
    except OSError as problem:
        raise disk.unread(problem, path) from None


def own(disk: Disk, path: str, known: Info, limit: int) -> bytes:
    """The same of a file that no stranger has handed in, by its name."""
    data = disk.read(path, limit)
    if disk.info(path) != known:
        raise Changed(errno.EAGAIN, "has changed", path)
    return data


def facts(found: os.stat_result) -> Info:
    """What `Disk.info` says, of a descriptor."""
    return Info(
        found.st_size,
        found.st_nlink,
        found.st_ctime_ns // 1000,
        found.st_ino,
        found.st_uid,
        found.st_mode,
    )


def info(disk: Disk, path: str) -> Info | None:
    """`Disk.info`; None also where the kernel keeps us away (a FUSE file system of the writer)."""
    try:
        return disk.info(path)
    except OSError:
        return None


def meaning(data: bytes) -> int:
    """A hash of what a file says, in this process; space around it says nothing."""
    return hash(data.strip())


def _bytes(file: int, limit: int, path: str) -> bytes:
    parts: list[bytes] = []
    left = limit + 1
    while left > 0 and (part := os.read(file, min(left, CHUNK))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise TooLarge(errno.EFBIG, f"more than {limit} bytes", path)
    return b"".join(parts)
