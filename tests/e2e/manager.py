"""A service manager as spoold sees it: the other end of NOTIFY_SOCKET."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.e2e.live import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE)

    def hears(self, *lines: str) -> list[str]:
        """Wait for a message with lines that begin so; the message."""
        while True:
            found = self.socket.recv(1 << 16).decode().split("\n")
            if all(any(line.startswith(start) for line in found) for start in lines):
                return found

    def silence(self) -> None:
        """Forget what has been said."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(1 << 16)
        except BlockingIOError:
            self.socket.settimeout(PATIENCE)
