"""What `spool top` looks at, off the thread that draws: one picture after another."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from spool import layout
from spool.command.render import clock
from spool.disk import open_regular
from spool.errors import Refused, SpoolError, TimedOut
from spool.heldback import HeldBack
from spool.scene import lists
from spool.scene.flow import Flow
from spool.scene.moment import Gatherer
from spool.scene.tail import Tail
from spool.times import DAY
from spool.top.tables import LISTED

if TYPE_CHECKING:
    from spool.client import Spool
    from spool.scene.moment import Moment
    from spool.views import Listed

MANY = 200  # tasks in a list
MOST = 4 << 20  # bytes of a journal read for the first sparklines
SHARE = 10  # a list may not take more than one second in so many
GLANCE = 2.0  # seconds an answer is waited for
LOG = 1 << 16  # bytes of a log that are shown


class Picture(Struct):
    """What is drawn: a moment, the flow of the last minutes, the list of the view that is shown."""

    moment: Moment
    flow: Flow
    view: str
    listed: list[Listed] = field(default_factory=list)


class Source:
    """One spool, looked at again and again by one thread."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.flow = Flow()
        self.trouble = ""  # what cannot be read, in words
        self._gatherer = Gatherer(spool)
        self._tail = Tail(spool.path, self.flow, back=DAY, most=MOST)
        self._list: tuple[tuple[str, str], list[Listed]] = (("", ""), [])
        self._again = 0.0  # when a long list may be read again

    def look(self, view: str, wanted: str) -> Picture:
        """The spool now."""
        moment = self._gatherer.look()
        while self._tail.step(moment.now):
            pass
        self.trouble = self._tail.trouble
        listed = self._listed(view, wanted, moment.now) if view in LISTED else []
        if view == "waiting":
            held = HeldBack(self.spool.disk, moment.alive, lambda us: clock(us, moment.now))
            listed = held.told(listed, moment.now)
        return Picture(moment, self.flow, view, listed)

    def _listed(self, view: str, wanted: str, now: int) -> list[Listed]:
        key = (view, wanted)
        begun = time.monotonic()
        if self._list[0] == key and begun < self._again:
            return self._list[1]
        disk = self.spool.disk
        if view == "waiting":
            found = lists.waiting(disk, now, MANY, wanted)
        else:
            found = lists.told(disk, lists.newest(disk, LISTED[view], MANY, wanted))
        self._again = time.monotonic() + SHARE * (time.monotonic() - begun)
        self._list = key, found
        return found

    def do(self, action: dict[str, Any]) -> str:
        """Drop an action; what came of it, in words."""
        verb = str(action["action"])
        self._again = 0.0
        try:
            self.spool.carried_out(self.spool.act(action), GLANCE)
        except Refused as problem:
            return f"{verb} refused: {problem.reason}"
        except TimedOut:
            return f"{verb}: asked for, not carried out yet"
        except (SpoolError, OSError) as problem:
            return f"{verb}: {problem}"
        return f"{verb}: done"

    def story(self, task_id: str) -> tuple[list[str], str]:
        """A task in some lines, and the end of its newest log."""
        from spool.command.render import json_line
        from spool.command.why import explainer

        try:
            task = self.spool.get(task_id)
        except SpoolError as problem:
            return [str(problem)], ""
        lines = [
            f"{task.task}  {task.id}  {task.state}  {task.priority}",
            explainer(self.spool).line(task),
            f"args    {json_line(task.args)[:2000]}",
        ]
        for record in task.attempts[-5:]:
            error = record.get("error") or {}
            said = error.get("message") or json_line(record.get("result"))
            outcome = f"{record.get('outcome')}, {record.get('seconds')} s"
            lines.append(f"try {record['attempt']}   {outcome}: {said[:500]}")
        numbers = [task.attempt, *(r["attempt"] for r in reversed(task.attempts))]
        for number in numbers:
            text = self._log(layout.log(task_id, number))
            if text:
                return [*lines, f"log of try {number}:"], text
        return [*lines, "no log"], ""

    def _log(self, path: str) -> str:
        with contextlib.suppress(OSError), open(open_regular(f"{self.spool.path}/{path}"), "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG))
            return file.read().decode(errors="backslashreplace")
        return ""
