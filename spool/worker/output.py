"""Where the output of attempts goes: a scratch file that becomes the log of whoever has filled it.

What a function prints, and what the programs it starts print, goes to descriptors 1 and 2: the
scratch file. At the end of an attempt one fstat says whether there is anything; if so, the file
becomes the log, and a new scratch file takes its place. Coroutines share a worker: what they
write to sys.stdout and sys.stderr goes to their own log at once, found by their context.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
SAID = 4096
FULL = (errno.ENOSPC, errno.EDQUOT)
own_log: ContextVar[Log] = ContextVar("spool_log")


class Log:
    """The log of a coroutine: made at the first byte, never more than its limit."""

    def __init__(self, path: str, limit: int) -> None:
        self.path, self.limit = path, limit
        self.size, self.fd = 0, -1

    def write(self, data: bytes) -> None:
        room = self.limit - self.size
        if room <= 0:
            return
        if self.fd < 0:
            self.fd = _opened(self.path)
        self.size += os.write(self.fd, data[:room])
        if self.size >= self.limit:
            os.write(self.fd, _cut(self.limit))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Stream(io.RawIOBase):
    """What sys.stdout and sys.stderr write to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """It is no task's to close: the next one prints there as well."""

    def write(self, data: Any) -> int:
        log = own_log.get(None)
        try:
            if log is not None:
                log.write(bytes(data))
            else:
                os.write(self.fd, data)
        except OSError as problem:
            if problem.errno not in FULL:
                raise
        return len(data)  # what a full disk did not take as well: it ends no task


class Text(io.TextIOWrapper):
    """The same for text."""

    def close(self) -> None:
        """As below it: whoever wraps or closes it does so for himself."""
        self.flush()

    def detach(self) -> Any:
        """The same: it stays whole for the next task."""
        self.flush()
        return self.buffer


class Output:
    """Descriptors 1 and 2 of a worker."""

    def __init__(self, scratch: str, limit: int) -> None:
        self.scratch, self.limit = scratch, limit
        self._renew()
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream: Any = Stream(fd)
            text = Text(stream, encoding="utf-8", errors="backslashreplace", write_through=True)
            setattr(sys, f"__{name}__", text)  # who writes there must not fill a buffer of its own
        self.streams = sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def put_back(self) -> None:
        """What a task has left as sys.stdout and sys.stderr is no other's."""
        for left in (sys.stdout, sys.stderr):
            with suppress(Exception):  # it may be closed, or no stream at all
                left.flush()
        sys.stdout, sys.stderr = self.streams

    def taken(self) -> str:
        """The first of what was printed until now; it is no attempt's."""
        with open(self.scratch, "rb") as file:
            text = file.read(SAID).decode("utf-8", "backslashreplace")
        os.ftruncate(1, 0)
        return text

    def settle(self, path: str) -> int:
        """What was printed since the last call becomes, or is added to, the log at `path`; its size."""
        size = os.fstat(1).st_size
        if not size:
            return 0
        try:
            try:
                os.link(self.scratch, path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
                os.link(self.scratch, path)
        except FileExistsError:
            if not os.path.samefile(self.scratch, path):  # spoold may have linked it already
                self._add(path)
        os.unlink(self.scratch)
        self._renew()
        return self._bounded(path)

    def _renew(self) -> None:
        fd = os.open(self.scratch, APPEND, 0o640)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)

    def _add(self, path: str) -> None:
        with open(self.scratch, "rb") as source, open(path, "ab") as target:
            target.write(source.read(self.limit))

    def _bounded(self, path: str) -> int:
        size = os.stat(path).st_size
        if size <= self.limit:
            return size
        os.truncate(path, self.limit)
        with open(path, "ab") as target:
            target.write(_cut(self.limit))
        return self.limit


def _opened(path: str) -> int:
    try:
        return os.open(path, APPEND, 0o640)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        return os.open(path, APPEND, 0o640)


def _cut(limit: int) -> bytes:
    return f"\n[spool: output truncated after {limit} bytes]\n".encode()
