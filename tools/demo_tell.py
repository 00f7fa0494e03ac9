"""How the demonstration tells what happens: one aligned line for each thing, as it happens."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from spool.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from spool.views import Event

NODE = "demo"
COLOURS = {
    "submit": "36", "done": "32", "ok": "1;32", "retrying": "33", "lift": "35", "lost": "33",
    "kill -9": "1;31", "failed": "31", "spoold": "1", "ready": "34", "command": "1", "time": "2",
}  # fmt: skip


def coloured() -> bool:
    """Whether there is a terminal whose user has not declined colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, what: str) -> str:
    """The text in the colour of what it says."""
    code = COLOURS.get(what)
    return f"\x1b[{code}m{text}\x1b[0m" if code and coloured() else text


class Teller:
    """Prints events and what the journal says beside them; from any thread."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.begun = time.monotonic()
        self.names: dict[str, str] = {}  # id -> what to call the task
        self.seen: list[tuple[str, str]] = []  # (event, id) of the journal
        self._lock = threading.RLock()
        self._read = 0

    def line(self, word: str, task: str, text: str) -> None:
        """One line, seconds since the start first."""
        clock = paint(f"{time.monotonic() - self.begun:6.2f} s", "time")
        with self._lock:
            print(f"{clock}  {paint(word.ljust(8), word)}  {task.ljust(10)}  {text}", flush=True)

    def event(self, event: Event) -> None:
        """An event of an outbox, after what the journal says came before it."""
        with self._lock:
            self.journal()
            name = self.names.get(event.id, "")
            if event.outcome == "lost":
                return  # told by the journal
            word = "error" if event.event == "recurring-error" else event.event
            self.line(word, event.task, " ".join(filter(None, [name, _text(event)])))

    def journal(self) -> None:
        """What has been added to the journal and is told by no event: lifts, attempts that were lost."""
        with self._lock:
            text = "".join(p.read_text() for p in sorted((self.place / "journal").glob("*/*.jsonl")))
            whole = text.rpartition("\n")[0]
            for line in whole[self._read :].splitlines():
                if line.endswith("}"):  # else torn by the kill
                    self._told(json.loads(line))
            self._read = len(whole)

    def _told(self, row: dict[str, Any]) -> None:
        what, task_id = str(row["event"]), str(row.get("id", ""))
        self.seen.append((what, task_id))
        name = self.names.get(task_id, "")
        if what == "lift":
            self.line("lift", row["task"], "its deadline is near: from low to high")
        if what == "lose":
            self.line("lost", row["task"], f"{name} died with spoold and is run again")


class Journal(threading.Thread):
    """Tells of the journal the moment it grows."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(daemon=True)
        self.teller = teller

    def run(self) -> None:
        """Until the program ends."""
        with Watch([str((self.teller.place / "journal" / NODE).resolve())]) as watch:
            while True:
                self.teller.journal()
                watch.wait()


def _text(event: Event) -> str:
    result = event.result or {}
    if event.event == "ready":
        return f"order {event.args['order']}: the shop has it, ships, answers ack"
    if event.event == "retrying":
        wait = (event.next_at or 0) / 1e6 - time.time()
        return f"attempt {event.attempt} failed: one class down, again in {max(0, wait):.1f} s"
    if event.event == "recurring-error" and event.error:
        return f"new: {event.error['message']}"
    if event.event != "done":
        return str(event.error or "")
    seconds = f"{event.record['seconds']:.2f} s"
    for form in ("sha256 {sha256:.12}...", "{from} -> {to} bytes", "{bytes} bytes, attempt 3",
                 "{packed} of {of} files are packed by now", "parcel {parcel}"):  # fmt: skip
        try:
            return f"{form.format(**result)}  {paint(seconds, 'time')}"
        except KeyError:
            continue
    return seconds
