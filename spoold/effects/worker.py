"""spoold's end of one worker: what it was given, in turn, and the line to it.

Two sockets go to a worker: the line, with words as JSON, and the turns. A task's words go ahead of
time; it begins when the worker takes its number (8 bytes) from the turns. Both of us can take from
there: a number that we take back first has not begun, and never will. 0 is no task's: look at the line.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from spoold.core.values import Start

CHUNK = 1 << 18
MOST = 1 << 27  # bytes of one message; a result is 64 MiB at most
EVENTS = ("end", "progress", "ready", "broken")
TURN = 8  # bytes
BELL = bytes(TURN)
SPARE = 24  # descriptors that no worker gets: up to 17 files are open while a group is synced
Key = tuple[str, int]  # id, attempt
# What is to blame where a worker has died before it was ready; DEATH: a signal, or the lease was over.
Fault = Literal["code", "death", "machine", "keeper"]
CODE: Fault = "code"
DEATH: Fault = "death"
MACHINE: Fault = "machine"
KEEPER: Fault = "keeper"


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line. OSError with EMFILE where too few descriptors would be left."""
    ends = socket.socketpair()
    if max(end.fileno() for end in ends) + SPARE < resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        return ends
    for end in ends:
        end.close()
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Worker:
    """A process that runs Python tasks. Nothing here waits."""

    def __init__(self, name: str, sock: socket.socket, now: int, scratch: str) -> None:
        self.name = name
        self.sock = sock
        self.born = now
        self.scratch = scratch
        self.ready = False
        self.leaving = False
        self.worn = False  # it is to be replaced, and goes on until that can be
        self.gone_by: int | None = None  # told to leave, and idle: when patience ends
        self.broken = False  # it could not import the application, or is not to any more
        self.tasks = 0  # that it was given
        self.runs: dict[Key, Start] = {}  # in turn; the first of plain functions runs
        self.since = now  # when it was last given one, or became idle
        self.takes: dict[str, frozenset[int | str]] | None = None  # what its code takes, once it is ready
        self.asyncs: frozenset[str] = frozenset()
        self.deadlines: dict[Key, int] = {}  # coroutines that were told to stop: when patience ends
        self.killed = ""  # why, where it was us
        self.blamed: frozenset[Key] = frozenset()  # those because of which it is killed
        self.wants_write = False
        self.closed = False  # there is nothing more to hear
        self.garbled = False  # it has said what is no message
        self._inbox = bytearray()
        self._whole = False  # is there the end of a message in it?
        self._outbox = bytearray()
        self._numbers: dict[int, Key] = {}
        self._number = 0
        self._due = bytearray()  # turns to be given
        self._turns, self._far = pair()
        sock.setblocking(False)  # noqa: FBT003 - takes no keyword

    def greet(self, message: dict[str, Any], lease: int | None = None) -> None:
        """The first words, and with them the turns, and what tells when none may begin any more."""
        data = orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
        try:
            beside = [self._far.fileno(), *(() if lease is None else (lease,))]
            sent = socket.send_fds(self.sock, [data], beside)
        except OSError:
            return  # it never started: the keeper will say so
        self._outbox += data[sent:]
        self.wants_write = bool(self._outbox)

    def send(self, message: dict[str, Any]) -> None:
        """Say something, now or when it listens."""
        self._outbox += orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
        self._due += BELL
        self.flush()

    def give(self, start: Start, message: dict[str, Any]) -> None:
        """A task, whose turn is after those it has; `flush` sends it."""
        self._number += 1
        key = (start.entry.id, start.entry.attempt)
        self.runs[key] = start
        self._numbers[self._number] = key
        self.tasks += 1
        self._outbox += orjson.dumps({**message, "turn": self._number}, option=orjson.OPT_APPEND_NEWLINE)
        self._due += self._number.to_bytes(TURN, "little")

    def take_back(self) -> list[Start]:
        """Everything it has not begun, in turn; it is not going to."""
        found = []
        try:
            data = self._far.recv(CHUNK, socket.MSG_DONTWAIT)
        except OSError:
            data = b""
        data += bytes(self._due)
        self._due.clear()
        for at in range(0, len(data), TURN):
            key = self._numbers.pop(int.from_bytes(data[at : at + TURN], "little"), None)
            if key is not None:
                found.append(self.runs.pop(key))
        self.tasks -= len(found)
        if BELL in (data[at : at + TURN] for at in range(0, len(data), TURN)):
            self._due += BELL
            self.flush()
        return found

    def ended(self, key: Key) -> Start | None:
        """A task of its has ended; None where it has no such task."""
        start = self.runs.pop(key, None)
        if start is not None and len(self._numbers) > 2 * len(self.runs) + 64:
            self._numbers = {n: k for n, k in self._numbers.items() if k in self.runs}
        return start

    def flush(self) -> None:
        """Hand over what it takes now: the words first, then the turns."""
        try:
            while self._outbox:
                del self._outbox[: self.sock.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()  # it is dead: the keeper will say so
        try:
            if self._due:
                del self._due[: self._turns.send(self._due, socket.MSG_DONTWAIT)]
        except OSError:
            pass  # full of turns, or dead
        self.wants_write = bool(self._outbox)

    def receive(self, *, to_the_end: bool = False) -> tuple[list[dict[str, Any]], bool]:
        """What it has said, or a good part of it, and whether it can say no more."""
        while not self.garbled:
            try:
                data = self.sock.recv(CHUNK)
            except BlockingIOError:
                return self._messages(), self.garbled
            except OSError:
                data = b""
            self._inbox += data
            self._whole |= b"\n" in data
            if not data or not to_the_end:
                return self._messages(), self.garbled or not data
        return [], True

    def _messages(self) -> list[dict[str, Any]]:
        """Those that are whole; `garbled` where one is none, as a task can write to any descriptor."""
        if not self._whole:
            self.garbled = len(self._inbox) > MOST
            return []
        self._whole = False
        *lines, self._inbox = self._inbox.split(b"\n")
        found: list[dict[str, Any]] = []
        for line in lines:
            try:
                message = orjson.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict) or message.get("ev") not in EVENTS:
                self.garbled = True
                break
            found.append(message)
        return found

    def close(self) -> None:
        """Let go of both sockets."""
        for one in (self.sock, self._turns, self._far):
            one.close()

    @property
    def is_plain(self) -> bool:
        """Whether a plain function runs: nothing runs beside it."""
        return any(start.entry.task not in self.asyncs for start in self.runs.values())

    @property
    def among(self) -> int:
        """How many each coroutine that runs here may be among: the same for all; 0: as many as can be."""
        return next((start.entry.among for start in self.runs.values()), 0)

    @property
    def able(self) -> bool:
        """Whether it may be given tasks at all."""
        return self.ready and not self.leaving and not self.closed

    @property
    def coming(self) -> bool:
        """Whether it is on its way: it imports the application."""
        return not self.ready and not self.leaving
