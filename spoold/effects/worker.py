"""spoold's end of one worker: what it runs, and the line to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import socket

    from spoold.core.values import Start

CHUNK = 1 << 18
Key = tuple[str, int]  # id, attempt


class Worker:
    """A process that runs Python tasks. Nothing here waits."""

    def __init__(self, name: str, sock: socket.socket, now: int, scratch: str) -> None:
        self.name = name
        self.sock = sock
        self.born = now
        self.scratch = scratch
        self.ready = False
        self.leaving = False
        self.gone_by: int | None = None  # told to leave, and idle: when patience ends
        self.broken = False  # it could not import the application
        self.tasks = 0  # that it was given
        self.runs: dict[Key, Start] = {}
        self.since = now  # when it was last given one, or became idle
        self.asyncs: frozenset[str] = frozenset()
        self.deadlines: dict[Key, int] = {}  # coroutines that were told to stop: when patience ends
        self.wants_write = False
        self.closed = False  # there is nothing more to hear
        self._inbox = b""
        self._outbox = bytearray()
        sock.setblocking(False)  # noqa: FBT003 - takes no keyword

    def send(self, message: dict[str, Any]) -> None:
        """Say something, now or when it listens."""
        data = orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
        if not self._outbox:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # it is dead: the keeper will say so
            data = data[sent:]
        self._outbox += data
        self.wants_write = bool(self._outbox)

    def flush(self) -> None:
        """Hand over what it takes now."""
        try:
            while self._outbox:
                del self._outbox[: self.sock.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()
        self.wants_write = bool(self._outbox)

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """What it has said, and whether it can say no more."""
        closed = False
        try:
            data = self.sock.recv(CHUNK)
            closed = not data
        except BlockingIOError:
            data = b""
        except OSError:
            data, closed = b"", True
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        return [orjson.loads(line) for line in lines], closed

    @property
    def is_plain(self) -> bool:
        """Whether a plain function runs: nothing runs beside it."""
        return any(start.entry.task not in self.asyncs for start in self.runs.values())

    def takes(self, task: str, width: int) -> bool:
        """Whether it may be given a task now."""
        if not self.ready or self.leaving or self.closed:
            return False
        if not self.runs:
            return True
        return task in self.asyncs and not self.is_plain and len(self.runs) < width
