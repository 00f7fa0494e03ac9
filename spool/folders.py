"""Directories by their descriptors: what others put in the place of a name meanwhile is not followed."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = "/proc/self/fd"  # where the kernel has them by number
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Held(NamedTuple):
    """Something in a directory: its path, one for calls that change this very inode, what it is."""

    path: str
    by: str
    found: os.stat_result

    @property
    def has_second_name(self) -> bool:
        """Whether it is a file that may be somebody's elsewhere as well."""
        return not stat.S_ISDIR(self.found.st_mode) and self.found.st_nlink > 1


class Folder:
    """An open directory, and the path by which people know it.

    A name is that of something in it, "" stands for itself. Errors are the kernel's.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.by = f"{OPEN}/{fd}"  # a path that leads here, whatever `path` leads to by now

    def at(self, name: str) -> str:
        """What to call it."""
        return f"{self.path}/{name}" if name else self.path

    def info(self, name: str) -> os.stat_result:
        """lstat(2)."""
        return os.stat(name or ".", dir_fd=self.fd, follow_symlinks=False)

    def within(self, name: str) -> Iterator[tuple[Folder, str]]:
        """What is in a directory, as (directory, name), in order; nothing where it is closed or none."""
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError), self.inner(name) as inner:
            for one in sorted(os.listdir(inner.fd)):
                yield inner, one

    @contextmanager
    def inner(self, name: str) -> Iterator[Folder]:
        """A directory in it; NotADirectoryError where a link stands there."""
        fd = os.open(name, FLAGS, dir_fd=self.fd)
        try:
            yield Folder(self.at(name), fd)
        finally:
            os.close(fd)

    @contextmanager
    def held(self, name: str) -> Iterator[Held]:
        """What stands there now, held without being touched: it may be a device, or a link."""
        fd = os.open(name or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            yield Held(self.at(name), f"{OPEN}/{fd}", os.fstat(fd))
        finally:
            os.close(fd)


@contextmanager
def opened(path: str) -> Iterator[Folder]:
    """The directory at a path, which may be a link."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Folder(path, fd)
    finally:
        os.close(fd)
