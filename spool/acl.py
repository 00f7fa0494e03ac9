"""POSIX access control lists as the kernel keeps them: read and set without a library.

By the C library, for `os` of Python 3.11 has no extended attributes where that is musl.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from spool.libc import call

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
READ, WRITE, ENTER = 4, 2, 1
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_HEAD, _ROW = struct.Struct("<I"), struct.Struct("<HHI")
_LARGEST = 1 << 16  # bytes, of any extended attribute


class Row(NamedTuple):
    """Who (`tag`, and for USER and GROUP a number) may do what."""

    tag: int
    may: int
    number: int = _NOBODY


def read(path: str, kind: str = ACCESS) -> list[Row]:
    """The rows of a list; none where there is no list, or the file system has no lists."""
    room = ctypes.create_string_buffer(_LARGEST)
    try:
        size = _call("lgetxattr", path, kind, room, ctypes.c_size_t(_LARGEST))
    except OSError:
        return []
    data = room.raw[:size]
    return [Row(*_ROW.unpack_from(data, at)) for at in range(_HEAD.size, len(data), _ROW.size)]


def write(path: str, rows: list[Row], kind: str = ACCESS) -> bool:
    """Set a list; False where the file system has no lists."""
    data = _HEAD.pack(_VERSION) + b"".join(_ROW.pack(*row) for row in sorted(rows, key=_order))
    try:
        _call("lsetxattr", path, kind, data, ctypes.c_size_t(len(data)), 0)
    except OSError as problem:
        if problem.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return False
        raise
    return True


def remove(path: str) -> None:
    """Away with both lists of a directory; nothing where there are none."""
    for kind in (ACCESS, DEFAULT):
        try:
            _call("lremovexattr", path, kind)
        except OSError as problem:
            if problem.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise


def _call(name: str, path: str, kind: str, *rest: object) -> int:
    return call(name, os.fsencode(path), kind.encode(), *rest, path=path)


def _order(row: Row) -> tuple[int, int]:
    return row.tag, row.number
