"""The line to spoold: JSON objects, one a line, over a socket; and the turns, over another.

A task that was told on the line begins when its number was taken from the turns: what is told ahead
of time can be taken back by spoold, which takes from the turns as well. 0: there are words to hear.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import orjson

CHUNK = 1 << 16
TURN = 8  # bytes


class Closed(Exception):
    """spoold has hung up, or the socket was closed under us."""


class Line:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.owner = os.getpid()
        self._turns: socket.socket | None = None  # it comes with the first words
        self._lease: int | None = None  # a file: us of CLOCK_BOOTTIME after which nothing begins
        self._inbox = b""
        self._sending = threading.Lock()
        # A child that a task has forked is no worker: it must not speak for one.
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Let go of both sockets."""
        self.sock.close()
        if self._turns is not None:
            self._turns.close()

    def turn(self, *, wait: bool) -> int | None:
        """The number of the next task whose turn has come; None without `wait`, where none has."""
        if self._turns is None:
            raise Closed("spoold has not said hello")
        try:
            data = self._turns.recv(TURN, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as problem:
            raise Closed(str(problem)) from None
        if not data:
            raise Closed("spoold has hung up")
        number = int.from_bytes(data, "little")
        if number and self._lease is not None:
            until = int.from_bytes(os.pread(self._lease, TURN, 0), "little")
            if 0 < until <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000:
                raise Closed("the lease of this node is over")  # the host was frozen since it was given
        return number

    @property
    def turns(self) -> int:
        """The descriptor that tells when a turn has come."""
        return -1 if self._turns is None else self._turns.fileno()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Say something; waits until spoold takes it. What a forked child says, nobody hears."""
        if os.getpid() != self.owner:
            return
        try:
            with self._sending:
                self.sock.sendall(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as problem:
            raise Closed(str(problem)) from None

    def receive(self, *, wait: bool) -> list[dict[str, Any]]:
        """The messages that are there; with `wait`, at least one. Raises Closed at their end.

        A child that a task has forked is told nothing.
        """
        while os.getpid() == self.owner:
            try:
                data = self._recv(wait=wait)
            except BlockingIOError:
                return []
            except OSError as problem:
                raise Closed(str(problem)) from None
            if not data:
                raise Closed("spoold has hung up")
            data = self._inbox + data
            if b"\n" not in data:
                self._inbox = data  # a part of a long message
                continue
            *lines, self._inbox = data.split(b"\n")
            return [orjson.loads(line) for line in lines]
        return []

    def _recv(self, *, wait: bool) -> bytes:
        if self._turns is not None:
            return self.sock.recv(CHUNK, 0 if wait else socket.MSG_DONTWAIT)
        data, fds, *_ = socket.recv_fds(self.sock, CHUNK, 2, socket.MSG_CMSG_CLOEXEC)
        if fds:
            self._turns = socket.socket(fileno=fds[0])
            self._lease = fds[1] if fds[1:] else None
        return data
