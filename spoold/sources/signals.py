"""Signals to words, without a handler that could interrupt anything."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
WORDS = {**dict.fromkeys(STOPS, "stop"), signal.SIGHUP: "reload"}


class Signals:
    """TERM and INT say stop, HUP says reload; `fd` becomes readable."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stop = False
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in WORDS:
            signal.signal(number, self._noted)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WORDS)  # what was said during the start is heard now

    def _noted(self, number: int, frame: FrameType | None) -> None:
        del frame
        if WORDS[signal.Signals(number)] == "stop":
            self.stop = True

    def drain(self) -> list[str]:
        """What was said since the last call."""
        try:
            numbers = os.read(self.fd, 512)
        except BlockingIOError:
            return []
        return [WORDS[signal.Signals(n)] for n in numbers if n in WORDS]
