"""The line to spoold: orders come in, reports go out, neither grows without bound."""

from __future__ import annotations

import _socket  # without the Python around it, which takes long to import
import json
import os
import select
import sys
import time
from collections import deque

CHUNK = 1 << 16
LINE_LIMIT = 1 << 28  # bytes of one message; the args of a task are 64 MiB at most, and escaped
FD = 4  # bytes of a descriptor in a message
LATER = 0.05  # seconds that a remark waits for a report to go with
BACKLOG = 1 << 20  # bytes spoold has not read yet; above it nothing more is read from spoold


class Wire:
    """JSON objects, one a line, over a socket that does not block; descriptors come beside them."""

    def __init__(self, sock: int, epoll: select.epoll) -> None:
        self.sock, self.epoll = sock, epoll
        self._socket = _socket.socket(fileno=sock)
        self.fds: deque[int] = deque()  # in the order of the messages that speak of them
        self.open = True
        self._inbox, self._outbox = bytearray(), bytearray()
        self._remarks: dict[object, dict[str, object]] = {}  # by key, the last word on each
        self.due: float | None = None  # when remarks have waited long enough
        self._skipping = False  # inside a line that is too long
        self._events = select.EPOLLIN
        epoll.register(sock, self._events)

    def receive(self, events: int) -> list[bytearray]:
        """The orders that are complete now. `open` is False once no more can come."""
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self.open = False
        if not self.open or not events & select.EPOLLIN:
            return []
        try:
            data, beside, _, _ = self._socket.recvmsg(
                CHUNK, _socket.CMSG_SPACE(FD), _socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        for level, kind, packed in beside:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self.fds += [
                    int.from_bytes(packed[i : i + FD], sys.byteorder) for i in range(0, len(packed), FD)
                ]
        self.open = bool(data)
        return self._lines(data)

    def _lines(self, data: bytes) -> list[bytearray]:
        self._inbox += data
        lines: list[bytearray] = []
        if b"\n" in data:
            *lines, self._inbox = self._inbox.split(b"\n")
            if self._skipping:
                del lines[0]
            self._skipping = False
        if len(self._inbox) > LINE_LIMIT:
            self.say({"ev": "protocol", "error": f"a line of more than {LINE_LIMIT} bytes"})
            self._skipping = True
        if self._skipping:
            self._inbox.clear()
        return lines

    def say(self, message: dict[str, object]) -> None:
        """Report something, as soon as spoold takes it."""
        self._remarks.pop(message.get("key"), None)
        self._remark_now()
        self._write(message)

    def remark(self, message: dict[str, object], later: float = LATER) -> None:
        """Report what nobody waits for: with the next report, so that spoold is not woken for it."""
        self._remarks.pop(message["key"], None)
        self._remarks[message["key"]] = message
        due = time.monotonic() + later
        self.due = due if self.due is None else min(due, self.due)

    def _remark_now(self) -> None:
        for message in self._remarks.values():
            self._write(message)
        self._remarks.clear()
        self.due = None

    def _write(self, message: dict[str, object]) -> None:
        self._outbox += json.dumps(message).encode() + b"\n"

    def send(self) -> None:
        """Hand over what spoold takes now; a spoold that does not read gets no more work done."""
        if self.due is not None and (not self.open or self.due <= time.monotonic()):
            self._remark_now()
        if self._outbox:
            try:
                del self._outbox[: os.write(self.sock, self._outbox)]
            except BlockingIOError:
                pass
            except OSError:
                self.open = False
        events = select.EPOLLIN if len(self._outbox) <= BACKLOG else 0
        if self._outbox:
            events |= select.EPOLLOUT
        if events != self._events:
            self._events = events
            self.epoll.modify(self.sock, events)
