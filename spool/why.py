"""Why a task does not run yet, or what became of it, in one line for people."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from spool import daemons, layout, look, quarantine, waiting
from spool.errors import Damaged, SpoolError
from spool.gated import sentence
from spool.heldback import HeldBack
from spool.heldfor import AFTER, NO_HANDLER, VERSION, words
from spool.names import CLOCK, PRIORITIES, TO_FRONT, clock_of, date_of, entry_name, id_and_task
from spool.patterns import matches
from spool.runargs import RUN
from spool.shape import BOUNDS
from spool.times import SECOND, format_span, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from spool.disk import Disk
    from spool.names import Entry
    from spool.place import Place
    from spool.views import TaskView

SOON = 5 * SECOND  # in which what was dropped is taken in
FEW = 20  # tasks that are each looked for
DAMAGED = "damaged"  # where no state is told any more
FOUND = "it counts as that within the hour, or when spoold starts"
OVER = (*layout.ENDED, DAMAGED)
UNDONE = tuple(state for state in layout.STATES if state != layout.DONE)
STARTS = ("running", "pause", "drain")  # states of a daemon, of which any other is a reason


class Why:
    """The explanation of one task. `say` shows an instant: 14:00:00 (in 2 h)."""

    def __init__(self, disk: Disk, root: str, now: int, say: Callable[[int], str]) -> None:
        self.disk = disk
        self.root = root
        self.now = now
        self.say = say
        self.nodes = daemons.nodes(disk, root)
        self.alive = [status for status in self.nodes.values() if status["alive"]]
        self.held_back = HeldBack(disk, self.alive, say)

    @cached_property
    def _aside(self) -> dict[str, str]:
        return quarantine.put_aside(self.disk)

    def line(self, task: TaskView) -> str:
        """One line."""
        match task.state:
            case layout.INCOMING:
                return "; ".join(filter(None, (self._unserved(), task.why))) or self._dropped(task)
            case layout.PENDING:
                return self._pending(task)
            case layout.HELD:
                return self._held(task)
            case layout.RUNNING:
                return self._running(task)
            case _:
                return self._ended(task)

    def _dropped(self, task: TaskView) -> str:
        since = self.now - (task.submitted_at or self.now)
        why = self.shut()
        if since < SOON:
            return why or "dropped a moment ago; it is being taken in"
        said = [f"{node['node']} is {node.get('state')}" for node in self.alive]
        return f"dropped {format_span(since)} ago and not taken in yet: {why or '; '.join(said)}"

    def _held(self, task: TaskView) -> str:
        passed = task.entry is not None and task.entry.lifted > 1 and task.entry.deadline
        late = f"; its deadline passed, {self.say(passed)}" if passed else ""
        return self._held_for(task) + late

    def _held_for(self, task: TaskView) -> str:
        if task.why == AFTER:
            return self._after(task)
        handler = self.held_back.handler_of(task.task)
        if task.why == VERSION and handler and handler.leaves_out(task.version):
            return f"its handler takes versions {', '.join(map(str, handler.versions))}; spool.toml(5)"
        nodes = sorted(self._takers(task)) if task.why in (NO_HANDLER, VERSION) else []
        if nodes:
            return (
                f"parked by a node with other code; node {nodes[0]} takes it: `spool release {task.id}`"
            )
        if task.why == NO_HANDLER and task.task == RUN:
            return f"{RUN} may not run anything here: see allow_run in spool.toml(5)"
        if task.why == NO_HANDLER and (module := self._module(task.task)):
            return f"module {module} has no function `{task.task}`: deploy one, then HUP to spoold"
        said = ((status.get("gate") or {}).get("too_large", {}).get(task.task) for status in self.alive)
        figures = next((f": {one}" for one in said if one), "")
        return words(task.why).sentence.format(
            id=task.id, task=task.task, why=task.why, version=task.version, figures=figures
        )

    def _takers(self, task: TaskView) -> Iterator[str]:
        """The nodes that are alive and whose Python code takes a task in its version."""
        for status in self.alive:
            for row in status.get("python") or ():
                versions = (row.get("takes") or {}).get(task.task)
                bound = any(matches(pattern, task.task) for pattern in row["handlers"])
                if bound and versions is not None and task.version in (None, *versions):
                    yield str(status["node"])

    def _module(self, task: str) -> str | None:
        """The Python module that is bound to a name, as the daemons say."""
        rows = (row for status in self.alive for row in status.get("python") or ())
        return next(
            (row["module"] for row in rows if any(matches(p, task) for p in row["handlers"])), None
        )

    def _after(self, task: TaskView) -> str:
        """How many it waits for, and one of them."""
        states = self._states(task.after)
        if states is None:
            return f"waits for some of {len(task.after)} tasks; `spool release {task.id}` lets it go on"
        over = OVER if task.on_failure == "run" else (layout.DONE,)
        for one, state in states.items() if len(states) <= FEW else ():
            stays = task.on_failure == "wait" and state != layout.DONE
            if state in layout.ENDED and not stays and waiting.end_of(self.disk, one) is None:
                return self._unserved() or f"{one} is {state}, and no whole record tells it; {FOUND}"
        left = [(one, state) for one, state in states.items() if state not in over]
        left.sort(key=lambda row: row[1] not in OVER)  # what has failed waits for somebody
        if not left:
            return self._unserved() or "what it waited for is done; it is about to go on"
        one, state = left[0]
        if task.on_failure == "only":
            return f"runs where one of {len(task.after)} fails, of which {len(left)} are not done"
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        said = f"waits for {one} ({state or 'no longer known'}){more}"
        again = f"`spool retry {one}` tries that again, " if self._takes_retry(one) else ""
        return f"{said}; {again}`spool release {task.id}` lets it go on"

    def _states(self, ids: Sequence[str]) -> dict[str, str] | None:
        """The state of each; of many by their names alone, None where too many are to be looked at."""
        if len(ids) <= FEW:
            return {one: self._state(one) for one in ids}
        found = dict.fromkeys(ids, layout.DONE)
        seen = 0
        for folder, batch in look.batches(self.disk, UNDONE):
            state = folder.partition("/")[0]
            found |= {one: state for name in batch if (one := id_and_task(name)[0]) in found}
            seen += len(batch)
            if seen > look.MANY:
                return None
        done = (one for one, state in found.items() if state == layout.DONE)
        missing = (one for one in done if not look.is_known(self.disk, one))
        gone = list(islice(missing, FEW + 1))
        found |= {one: self._state(one) for one in gone[:FEW]}
        return None if len(gone) > FEW and set(found.values()) == {layout.DONE} else found

    def _takes_retry(self, task_id: str) -> bool:
        """Whether it is at rest and may come back: neither packed nor a duplicate."""
        place = self._place(task_id)
        if place is None or place.task.duplicate_of is not None:
            return False
        return place.state in (layout.FAILED, layout.CANCELLED)

    def _place(self, task_id: str) -> Place | None:
        try:
            return look.find(self.disk, task_id)
        except (OSError, SpoolError):
            return None

    def _state(self, task_id: str) -> str:
        if end := waiting.how_ended(self.disk, task_id, lambda: self._aside):
            return end
        try:
            place = look.find(self.disk, task_id)
        except Damaged as problem:
            return problem.path.partition("/")[0]
        except (OSError, SpoolError):
            return ""
        return place.state if place is not None else ""

    def _unserved(self) -> str:
        if self.alive:
            return ""
        return f"no spoold serves this spool; start it with `{daemons.start_hint(self.root)}`"

    def _pending(self, task: TaskView) -> str:
        entry = task.entry
        if entry is None:
            return "waits"
        paused = "; ".join(map(self.pause, self.held_back.pauses(task.task)))
        parts = [self._unserved(), paused]
        if entry.time > self.now:
            again = f"attempt {entry.attempt} " if entry.fails or task.attempts else ""
            last = (task.error or {}).get("message")
            parts.insert(0, f"{again}not before {self.say(entry.time)}")
            parts.insert(1, f"the last one: {last}" if last else "")
            if (task.submitted_at or 0) > self.now:
                back = "it was taken in by a clock that was set back since"
                parts.insert(1, f"{back}: `spool move {task.id} --at +0s` has it run now")
        else:
            parts += [paused or self._broken(task) or self._held_back(task)]
            parts += [self._behind(entry), self._turns(task)]
            parts = list(dict.fromkeys(parts))
        if entry.deadline is not None:
            parts.append(f"deadline {self.say(entry.deadline)}")
        return "; ".join(part for part in parts if part) or "ready, it is about to start"

    def pause(self, row: dict[str, Any]) -> str:
        """One pause in words."""
        since = f" since {self.say(row['since'])}" if isinstance(row.get("since"), int) else ""
        until = f" until {self.say(row['until'])}" if isinstance(row.get("until"), int) else ""
        why = f": {row['why']}" if row.get("why") else ""
        return f"{daemons.paused(row)}{daemons.asker(row)}{since}{until}{why}"

    def _held_back(self, task: TaskView) -> str:
        """What the daemons say about tasks of its handler; where none starts anything, that."""
        if self.alive and not any(status.get("state") in STARTS for status in self.alive):
            return self.shut()
        for status in self.alive:
            if task.entry is not None and (why := self.held_back.on(status, task.entry)):
                shut = sentence(status, self.now, self.say)
                return shut if f": {why}" in shut else why
            if full := daemons.unread_by(status).get(self.held_back.parent_of(task.task, task.notify)):
                return f"{full}: it waits until that parent has read"
        return self.shut()

    def _broken(self, task: TaskView) -> str:
        """That the module of its function cannot be imported, by any daemon."""
        handler = self.held_back.handler_of(task.task)
        said = [daemons.broken(status, handler.pattern) for status in self.alive] if handler else []
        return said[0][0] if said and all(said) else ""

    def shut(self) -> str:
        """What keeps a daemon from doing anything, such as a full disk."""
        for status in self.alive:
            if (state := str(status.get("state"))) not in STARTS:
                return f"node {status['node']} is {state}" if daemons.is_silent(status) else state
        full = daemons.full(self.disk)
        return full and f"disk {full}"

    def _turns(self, task: TaskView) -> str:
        """Whether those before it may have to let it pass."""
        handler = self.held_back.handler_of(task.task)
        return f"tasks take turns by {handler.fair} (fair)" if handler and handler.fair else ""

    def _behind(self, entry: Entry) -> str:
        """How many tasks of each class are ready before it, by their names or as a daemon has counted."""
        file = daemons.counted(self.disk, self.nodes)
        if file is not None and sum(file["counts"].values()) > look.MANY:
            return self._reckoned(entry, file)
        mine = (date_of(entry.time), entry_name(entry, dated=False))
        before = dict.fromkeys(PRIORITIES, 0)
        seen = 0
        for folder in look.folders(self.disk, (layout.PENDING,)):
            _, date, prio = folder.split("/")
            if date > date_of(self.now):
                break  # dates come in order: what follows is not ready
            if PRIORITIES.index(prio) > PRIORITIES.index(entry.prio):
                continue
            due = clock_of(self.now) if date == date_of(self.now) else "~"
            for batch in self.disk.slices(folder, look.SLICE):
                seen += len(batch)
                if seen > look.MANY:
                    return self._reckoned(entry, file) or f"behind more than {_many(before)}"
                ready = [name for name in batch if name[0] != "." and name[CLOCK] <= due]
                if prio == entry.prio:
                    ready = [n for n in ready if _is_ahead((date, n), mine)]
                before[prio] += len(ready)
        return f"behind {_many(before)}" if any(before.values()) else ""

    def _reckoned(self, entry: Entry, file: dict[str, Any] | None) -> str:
        """The same from the newest count of a daemon, which tells ages in buckets: at most so many."""
        if file is None:
            return ""
        at = parse_utc(file["at"])
        since = 1 + bisect_left(BOUNDS, max(0, at - entry.time) / SECOND)
        before = dict.fromkeys(PRIORITIES, 0)
        for rows in file["tasks"].values():
            for prio, row in rows.items():
                ahead = PRIORITIES.index(prio) - PRIORITIES.index(entry.prio)
                if ahead < 0:
                    before[prio] += sum(row[1:])
                elif ahead == 0 and not entry.front:
                    before[prio] += sum(row[since:])
        return f"behind at most {_many(before)} (counted {self.say(at)})" if any(before.values()) else ""

    def _running(self, task: TaskView) -> str:
        since = self._since(task)
        text = f"running on node {task.node} for {since} (attempt {task.attempt})"
        status = self.nodes.get(task.node or "", {})
        if not status.get("alive"):
            others = any(node.get("alive") for node in self.nodes.values())
            ends = ", or is brought back by another node" if others else ""
            return f"{text}, but that node's spoold is not alive; it goes on when it starts again{ends}"
        if daemons.is_silent(status):
            text += f", by a spoold that is {status['state']}"
        for row in status.get("running") or []:
            if row.get("id") == task.id and row.get("progress"):
                text += _progress(row["progress"])
            if row.get("id") == task.id and row.get("ending"):
                text += f", being ended: {row['ending']}"
        if (handler := self.held_back.handler_of(task.task)) is not None:
            text += "".join(f"; {problem}" for problem in daemons.broken(status, handler.pattern))
        if task.entry is not None and task.entry.timeout is not None:
            text += f", its parent has until {self.say(task.entry.timeout)}"
        return text

    def _ended(self, task: TaskView) -> str:
        text = f"{task.state} {self._since(task)} ago"
        error = task.error or {}
        if task.state == layout.FAILED and error.get("type") != "unrecorded":  # else nobody knows
            count = sum(1 for one in task.attempts if one.get("started_at"))
            text += f" after {count} attempt{'s' * (count != 1)}"
        if task.state != layout.DONE and error.get("message"):
            text += f": {error['message']}"
        return text

    def share(self, task: TaskView) -> float | None:
        """How much of a running task is done, 0 to 1, as it says itself."""
        status = self.nodes.get(task.node or "", {})
        for row in status.get("running") or []:
            percent = (row.get("progress") or {}).get("percent") if row.get("id") == task.id else None
            if isinstance(percent, int | float):
                return min(1.0, max(0.0, percent / 100))
        return None

    def _since(self, task: TaskView) -> str:
        """How long it has been in its state: its last rename was the one into it, unless it is packed."""
        info = self.disk.info(task.path)
        if info is not None:
            since = info.ctime_us
        elif task.state in layout.ENDED and task.attempts and task.attempts[-1].get("ended_at"):
            since = parse_utc(task.attempts[-1]["ended_at"])
        else:
            return "a moment"
        return format_span(max(0, self.now - since))


def _is_ahead(one: tuple[str, str], mine: tuple[str, str]) -> bool:
    """Whether a task has its turn before another of its class, by date and name: see spool.turn."""
    front, to_front = TO_FRONT in one[1], TO_FRONT in mine[1]
    return front > to_front if front != to_front else one > mine if front else one < mine


def _many(before: dict[str, int]) -> str:
    return ", ".join(f"{count} {prio}" for prio, count in before.items() if count) or "it can count"


def _progress(progress: dict[str, Any]) -> str:
    percent, note = progress.get("percent"), progress.get("note")
    text = f", {percent:.0f} %" if isinstance(percent, int | float) else ""
    return f"{text}, {note}" if note else text
