"""What spoold tells the service manager that started it, as sd_notify(3) lays it down."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from spoold.core.state import State
    from spoold.core.values import Now

SOON = 5_000_000  # us between two texts at least
MARGIN = 30_000_000  # us that the last files may take at a stop


class Manager:
    """A chore of the loop: what it says shows that the loop goes round."""

    def __init__(self, state: State, environ: MutableMapping[str, str]) -> None:
        """`environ` loses what is meant for this process alone."""
        self.state = state
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watched, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        mine = watched.isdigit() and pid in ("", str(os.getpid()))
        self._every = int(watched) // 2 if mine and self._address else 0
        self._next = 0
        self._text_at = 0
        self._told = ""
        self._stopping = False

    def ready(self) -> None:
        """It serves."""
        self.say("READY=1", f"STATUS={self._text()}")

    def reloading(self, now: Now) -> None:
        """Settings are read again; `ready` ends it."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={now.mono}")

    def due(self, now: Now) -> int | None:
        """In how many us there is something to say; None: nothing until something happens."""
        if not self._address:
            return None
        waits = [max(0, self._next - now.mono)] if self._every else []
        if self._text() != self._told:
            soon = self.state.stopping and not self._stopping
            waits.append(0 if soon else max(0, self._text_at - now.mono))
        return min(waits, default=None)

    def step(self, now: Now) -> None:
        """Say it."""
        if self.due(now) != 0:
            return
        lines = []
        if self._every and now.mono >= self._next:
            self._next = now.mono + self._every
            lines.append("WATCHDOG=1")
        if now.mono >= self._text_at and (text := self._text()) != self._told:
            self._told, self._text_at = text, now.mono + SOON
            lines.append(f"STATUS={text}")
        if self.state.stopping and not self._stopping:
            self._stopping = True
            settings = self.state.settings
            needs = settings.drain_grace + 2 * settings.grace + MARGIN
            lines += ["STOPPING=1", f"EXTEND_TIMEOUT_USEC={needs}"]
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """One message; a manager that is gone is no reason to end."""
        if not self._address or not lines:
            return
        name = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, name)
            except OSError:
                return

    def _text(self) -> str:
        state, counts = self.state, self.state.counts
        ready = sum(len(window) for lanes in state.lanes.values() for window in lanes.values())
        parts = [
            str(state.paused() or "running"),
            f"{len(state.runs):,} run, {ready:,} ready",
            f"{counts['done']:,} done, {counts['failed']:,} failed",
        ]
        why = state.shut or ("" if state.gate.open else "the gate is shut")
        return "; ".join([*parts, *([why] if why else [])])
