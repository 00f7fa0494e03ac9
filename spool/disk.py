"""The disk behind one small interface: whatever must survive a crash goes through it.

Faults, the crash tests and the simulated
disk wrap or replace it; nothing patches `os`. Paths are relative to the spool, '/' between parts.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from spool.mounts import is_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import ThreadPoolExecutor

SYNC_THREADS = 16  # 16 threads share journal commits: 8,000 fsyncs a second against 2,300 by one


class Missing(FileNotFoundError):
    """There is no such file: someone was faster, or it never was."""


class Exists(FileExistsError):
    """The name is taken."""


class NotRegular(OSError):
    """Not a regular file of ours: a link, FIFO, socket, device or directory."""


class Unreadable(OSError):
    """The disk does not give this one file or directory, which may be whole: it is left where it is.

    Not on a network file system, where it is the server that cannot be reached.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class TooLarge(OSError):
    """More bytes than the caller is ready to read."""


class DiskFull(OSError):
    """No room, no inode or no quota left."""


class Failing(OSError):
    """The disk does not do it, or the system has nothing left to do it with: people must look."""


FULL = (errno.ENOSPC, errno.EDQUOT)
ROTTEN = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
FAILING = (*ROTTEN, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EMLINK, errno.ENOMEM)
GONE = (errno.ENOENT, errno.ESTALE)  # of an open file as well: another host has removed it


class Info(Struct, frozen=True):
    """What lstat says of a name. `ctime_us` cannot be set by a writer."""

    size: int
    nlink: int
    ctime_us: int
    ino: int
    uid: int
    mode: int


class Free(Struct, frozen=True):
    """Room left for an unprivileged writer."""

    bytes: int
    inodes: int


class Disk(Protocol):
    """The verbs. Each is one atomic step or none; what is not synced may be gone after a power cut."""

    def names(self, path: str) -> list[str]:
        """Names in a directory, in no order; Missing where there is none."""
        ...

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        """The same in slices of at most `size`; a missing directory has no slice."""
        ...

    def read(self, path: str, limit: int, start: int = 0) -> bytes:
        """A regular file's bytes from `start` on; Missing, NotRegular, or TooLarge above `limit`."""
        ...

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        """A new file, complete or not there; Exists where the name is taken.

        Its mode is 0600; in a shared spool others may read it, unless it is `private`.
        """
        ...

    def append(self, path: str, data: bytes) -> None:
        """Bytes at the end of a file, all or none; a missing one is made. One writer at a time."""
        ...

    def move(self, source: str, target: str) -> None:
        """rename(2); Missing where the source is gone."""
        ...

    def link(self, source: str, target: str) -> None:
        """A second name for a file; Exists where it is taken, Missing where the source is gone."""
        ...

    def remove(self, path: str) -> None:
        """unlink(2); Missing where it is gone."""
        ...

    def make_dir(self, path: str) -> None:
        """A directory, mode 0700, with its parents; nothing where it is there."""
        ...

    def remove_dir(self, path: str) -> bool:
        """An empty directory goes; False where it is not empty or not there."""
        ...

    def info(self, path: str) -> Info | None:
        """lstat(2), None where there is nothing."""
        ...

    def stamp(self, path: str) -> int | None:
        """A number that is another one when names in a directory have changed; None where there is none.

        It is asked of the file server anew each time, and costs the same however many names there are.
        """
        ...

    def sync(self, paths: Iterable[str], dirs: Iterable[str] = ()) -> None:
        """The contents of these files are on disk when it returns, and the names in these directories.

        A missing one raises Missing.
        """
        ...

    def sync_dirs(self, paths: Iterable[str]) -> None:
        """The names in these directories are on disk when it returns."""
        ...

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        """Bytes within a file, on disk when it returns; after a power cut in it any part of them.

        Only one of a size that does not change: then it costs no commit of a journal. Its name and
        size are synced by whoever made it. Missing.
        """
        ...

    def mark(self, path: str, data: bytes) -> None:
        """The few bytes a file consists of, in memory only as long as nobody syncs it. Missing."""
        ...

    def flush(self) -> Callable[[bool], bool]:
        """Begin to bring everything to disk, names and contents, beside other work.

        The function returned tells whether all that was written before is there; asked with True it
        waits until it is.
        """
        ...

    def free(self) -> Free:
        """What room is left."""
        ...


def write_anew(disk: Disk, path: str, data: bytes) -> None:
    """Write a file; what somebody who died just there has left in its place goes."""
    try:
        disk.write(path, data)
    except Exists:
        disk.remove(path)
        disk.write(path, data)


def link_anew(disk: Disk, source: str, target: str) -> None:
    """Give a file one more name, in a directory that is made where it is not there; or it has it."""
    disk.make_dir(target.rpartition("/")[0])
    try:
        disk.link(source, target)
    except Exists:
        pass


def move_file(disk: Disk, source: str, target: str) -> None:
    """Rename a file that others may replace at any moment; Exists.

    NotADirectoryError: it is a directory by now, and stays. None can be renamed to where a file is: until
    the move, and after a crash, that is an empty one.
    """
    disk.write(target, b"")
    try:
        disk.move(source, target)
    except OSError:
        left = disk.info(target)
        if left is not None and not left.size:  # else a file server has done it, and forgotten that
            disk.remove(target)
        raise


def open_regular(path: str) -> int:
    """A descriptor of a file; NotRegular where it is something else: no FIFO is waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unlike(error, path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular(errno.EINVAL, "not a regular file", path)
    return fd


def _unlike(error: OSError, path: str) -> OSError:
    """Why a file could not be opened: a link and a socket are no regular files."""
    if error.errno not in (errno.ELOOP, errno.ENXIO):
        return error
    return NotRegular(error.errno, "not a regular file", path)


def _told(error: OSError, path: str = ".") -> OSError:
    """An error of the kernel as one of the classes above, which say what to do about it, and its path."""
    if not isinstance(error.filename, str):  # of a call that was given a descriptor
        error.filename = path
    facts = error.errno, error.strerror, error.filename
    if isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE:
        return Missing(*facts)
    if isinstance(error, FileExistsError):
        return Exists(*facts)
    if type(error) is OSError and error.errno in FAILING:
        return Failing(*facts, None, error.filename2)
    return DiskFull(*facts) if error.errno in FULL else error


class RealDisk:
    """The verbs over the kernel's calls, by path relative to one open directory."""

    fd = -1  # none: closed, or not open yet

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.file_mode, self.dir_mode = 0o600, 0o700
        self.others = False  # whether what is written is for another user, whatever the umask
        try:
            self.fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _told(error) from None
        self._pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork has none of the threads
        self._kept: dict[str, int] = {}  # files that are overwritten stay open

    def close(self) -> None:
        """Let go of the directory and the sync threads."""
        if (pool := self._pools.pop(os.getpid(), None)) is not None:
            pool.shutdown()
        for fd in self._kept.values():
            os.close(fd)
        self._kept.clear()
        fd, self.fd = self.fd, -1  # its number may be another directory's from now on
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def names(self, path: str) -> list[str]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                return os.listdir(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self.unread(error, path) from None

    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        except (FileNotFoundError, NotADirectoryError):
            return  # a stranger's file is no directory of ours; fsck names it
        except OSError as error:
            raise self.unread(error, path) from None
        try:
            with os.scandir(fd) as entries:
                while batch := [entry.name for entry in islice(entries, size)]:
                    yield batch
        except OSError as error:
            raise self.unread(error, path) from None
        finally:
            os.close(fd)

    def read(self, path: str, limit: int, start: int = 0) -> bytes:
        try:
            return self._read(path, limit, start)
        except Missing:
            raise
        except OSError as error:
            if error.errno not in (*GONE, *ROTTEN):
                raise self.unread(error, path) from None
        try:
            # Replaced by another host meanwhile, or an error that passes.
            return self._read(path, limit, start)
        except OSError as error:
            if error.errno not in GONE:
                raise self.unread(error, path) from None
            raise Missing(error.errno, error.strerror, path) from None

    def unread(self, error: OSError, path: str) -> OSError:
        """What to say of a file or directory that could not be read."""
        if type(error) is not OSError or error.errno not in ROTTEN or is_network(self.root):
            return _told(error, path)
        why = f"cannot be read: {error.strerror}; dmesg may tell why"
        return Unreadable(error.errno, why, path)

    def _read(self, path: str, limit: int, start: int) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, dir_fd=self.fd)
        except FileNotFoundError as error:
            raise Missing(error.errno, error.strerror, path) from None
        except OSError as error:
            raise _unlike(error, path) from None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise NotRegular(errno.EINVAL, "not a regular file", path)
            size = max(0, found.st_size - start)
            if size > limit:
                raise TooLarge(errno.EFBIG, f"more than {limit} bytes", path)
            if start:
                os.lseek(fd, start, os.SEEK_SET)
            return _read_all(fd, size, limit, path)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o600 if private else self.file_mode
        try:
            fd = os.open(path, flags, mode, dir_fd=self.fd)
            try:
                try:
                    if self.others:
                        os.fchmod(fd, mode)
                    _write_all(fd, data)
                finally:
                    os.close(fd)  # on NFS it tells of a quota
            except BaseException:
                os.unlink(path, dir_fd=self.fd)
                raise
        except OSError as error:
            raise _told(error, path) from None

    def append(self, path: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, self.file_mode, dir_fd=self.fd)
            try:
                size = os.fstat(fd).st_size
                try:
                    _write_all(fd, data)
                except BaseException:
                    os.ftruncate(fd, size)  # no half of a line
                    raise
            finally:
                os.close(fd)
        except OSError as error:
            raise _told(error, path) from None

    def move(self, source: str, target: str) -> None:
        try:
            os.rename(source, target, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            raise _told(error, source) from None
        if (fd := self._kept.pop(target, -1)) >= 0:
            os.close(fd)  # of the file that was there

    def link(self, source: str, target: str) -> None:
        try:
            os.link(source, target, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except OSError as error:
            raise _told(error, source) from None

    def remove(self, path: str) -> None:
        try:
            os.unlink(path, dir_fd=self.fd)
        except OSError as error:
            raise _told(error, path) from None

    def make_dir(self, path: str) -> None:
        try:
            try:
                os.mkdir(path, self.dir_mode, dir_fd=self.fd)
            except FileExistsError:
                return
            except FileNotFoundError:
                if not path:
                    raise  # the spool itself has been removed
                self.make_dir(path.rpartition("/")[0])
                self.make_dir(path)
        except OSError as error:
            raise _told(error, path) from None

    def remove_dir(self, path: str) -> bool:
        try:
            os.rmdir(path, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                return False
            raise _told(error, path) from None
        return True

    def info(self, path: str) -> Info | None:
        try:
            found = os.stat(path, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ESTALE:  # another host has removed it meanwhile
                return None
            raise self.unread(error, path) from None
        return Info(
            found.st_size,
            found.st_nlink,
            found.st_ctime_ns // 1000,
            found.st_ino,
            found.st_uid,
            found.st_mode,
        )

    def stamp(self, path: str) -> int | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                return os.fstat(fd).st_mtime_ns  # after an open: a plain stat may be 24 s old on NFS
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in (*GONE, errno.ENOTDIR):
                return None
            raise self.unread(error, path) from None

    def sync(self, paths: Iterable[str], dirs: Iterable[str] = ()) -> None:
        files = dict.fromkeys(paths, os.O_RDONLY | os.O_NOFOLLOW)
        self._each({**files, **dict.fromkeys(dirs, os.O_RDONLY | os.O_DIRECTORY)})

    def sync_dirs(self, paths: Iterable[str]) -> None:
        self._each(dict.fromkeys(paths, os.O_RDONLY | os.O_DIRECTORY))

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        try:
            fd = self._keep(path, os.O_DSYNC)
            view = memoryview(data)
            while view:
                done = os.pwrite(fd, view, offset)
                offset, view = offset + done, view[done:]
        except OSError as error:
            raise _told(error, path) from None

    def mark(self, path: str, data: bytes) -> None:
        try:
            os.pwrite(self._keep(path, 0), data, 0)
        except OSError as error:
            raise _told(error, path) from None

    def _keep(self, path: str, how: int) -> int:
        fd = self._kept.get(path)
        if fd is None:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | how
            fd = self._kept[path] = os.open(path, flags, dir_fd=self.fd)
        return fd

    def flush(self) -> Callable[[bool], bool]:
        future = self._threads().submit(_syncfs, self.fd)

        def over(wait: bool) -> bool:  # noqa: FBT001 - the one thing it is asked
            if not wait and not future.done():
                return False
            try:
                future.result()
            except OSError as error:
                raise _told(error) from None
            return True

        return over

    def free(self) -> Free:
        found = os.fstatvfs(self.fd)
        # A file system without inode counts (btrfs) says 0 of 0: that is no shortage.
        inodes = found.f_favail if found.f_files else 1 << 40
        return Free(found.f_bavail * found.f_frsize, inodes)

    def _each(self, paths: dict[str, int]) -> None:
        """All at the same time: they share the commits of the file system's journal."""

        def one(path: str) -> None:
            try:
                fd = os.open(path, paths[path] | os.O_CLOEXEC, dir_fd=self.fd)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise _told(error, path) from None

        if len(paths) < 2:
            for path in paths:
                one(path)
            return
        last, *others = paths
        waiting = [self._threads().submit(one, path) for path in others]
        try:
            one(last)
        finally:
            problems = [done.exception() for done in waiting]
        for problem in filter(None, problems):
            raise problem

    def _threads(self) -> ThreadPoolExecutor:
        pool = self._pools.get(os.getpid())
        if pool is None:
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync")
            self._pools[os.getpid()] = pool
        return pool


def _syncfs(fd: int) -> None:
    """syncfs(2), which os has not: one commit for all that this file system has not written yet."""
    from spool.libc import call  # ctypes takes long to import

    call("syncfs", fd)


def _read_all(fd: int, size: int, limit: int, path: str) -> bytes:
    """All of a file; one that is as long as it was said to be takes one call."""
    parts = [os.read(fd, size + 1)]
    if len(parts[0]) == size:
        return parts[0]
    left = limit + 1 - len(parts[0])
    while left > 0:
        part = os.read(fd, min(left, 1 << 20))
        if not part:
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
    raise TooLarge(errno.EFBIG, f"more than {limit} bytes", path)


def _write_all(fd: int, data: bytes) -> None:
    """write(2) may take less than it was given: go on until all is taken."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
