"""POSIX access control lists as the kernel keeps them: read and set without a library."""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
READ, WRITE, ENTER = 4, 2, 1
_VERSION, _NOBODY = 2, 0xFFFFFFFF
_HEAD, _ROW = struct.Struct("<I"), struct.Struct("<HHI")


class Row(NamedTuple):
    """Who (`tag`, and for USER and GROUP a number) may do what."""

    tag: int
    may: int
    number: int = _NOBODY


def read(path: str, kind: str = ACCESS) -> list[Row]:
    """The rows of a list; none where there is no list, or the file system has no lists."""
    try:
        data = os.getxattr(path, kind, follow_symlinks=False)
    except OSError:
        return []
    return [Row(*_ROW.unpack_from(data, at)) for at in range(_HEAD.size, len(data), _ROW.size)]


def write(path: str, rows: list[Row], kind: str = ACCESS) -> bool:
    """Set a list; False where the file system has no lists."""
    data = _HEAD.pack(_VERSION) + b"".join(_ROW.pack(*row) for row in sorted(rows, key=_order))
    try:
        os.setxattr(path, kind, data, follow_symlinks=False)
    except OSError as problem:
        if problem.errno in (errno.ENOTSUP, errno.EOPNOTSUPP):
            return False
        raise
    return True


def remove(path: str) -> None:
    """Away with both lists of a directory; nothing where there are none."""
    for kind in (ACCESS, DEFAULT):
        try:
            os.removexattr(path, kind, follow_symlinks=False)
        except OSError as problem:
            if problem.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise


def _order(row: Row) -> tuple[int, int]:
    return row.tag, row.number
