"""The line to spoold: JSON objects, one a line, over a socket."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import orjson

CHUNK = 1 << 16


class Closed(Exception):
    """spoold has hung up, or the socket was closed under us."""


class Line:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.owner = os.getpid()
        self._inbox = b""
        self._sending = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child that a task has forked is no worker: it must not speak for one."""
        self.sock.close()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Say something; waits until spoold takes it."""
        if os.getpid() != self.owner:
            os._exit(0)  # a task has forked, and its child came out of the function as well
        try:
            with self._sending:
                self.sock.sendall(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as problem:
            raise Closed(str(problem)) from None

    def receive(self, *, wait: bool) -> list[dict[str, Any]]:
        """The messages that are there; with `wait`, at least one. Raises Closed at their end."""
        while True:
            try:
                data = self.sock.recv(CHUNK, 0 if wait else socket.MSG_DONTWAIT)
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
