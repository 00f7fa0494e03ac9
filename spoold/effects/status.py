"""What spoold knows, written where anybody who may read can see it: nodes/NODE.json."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from itertools import filterfalse, islice
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout
from spool.disk import DiskFull, Failing, Missing, write_anew
from spool.limitkey import OTHERS
from spool.names import PRIORITIES
from spool.times import format_utc
from spoold.core import deadlines, limits
from spoold.effects.rewrite import UNWRITTEN, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.disk import Disk
    from spoold.core.state import Lane, State
    from spoold.core.values import Now
    from spoold.core.window import Window
    from spoold.effects.owngroups import OwnGroups

SHOWN = 200  # running tasks shown by name
KEYS = 50  # of a handler, that are told one by one
BLOCK = 4096  # bytes that a file takes at once
SOON = 100_000  # at most one status this often, us


class Status:
    """Writes the status file when something has changed, at most every 100 ms."""

    def __init__(self, disk: Disk, state: State, started: Now) -> None:
        self.disk = disk
        self.state = state
        self.started = started
        self.extra: dict[str, Any] = {"reloads": 0}
        self.workers: Callable[[], list[dict[str, Any]]] = list  # the pools of `python` handlers
        self.groups: OwnGroups | None = None
        self.left_alone: Callable[[], dict[str, str]] = dict  # places of incoming/, and why
        self.others: Callable[[], dict[str, Any]] = dict  # what is known of other nodes
        self._written = -SOON
        self._changed = True
        self._next_file = f"{layout.NODES}/.{state.node}.json"
        self._prepared = False

    def change(self) -> None:
        """Something happened: the file is out of date."""
        self._changed = True

    def due(self, now: Now) -> int | None:
        """In how many us the file is to be written; None where it is up to date."""
        return max(0, self._written + SOON - now.mono) if self._changed else None

    def write(self, now: Now, *, always: bool = False) -> None:
        """Replace the file if it is out of date (or `always`, as a sign of life)."""
        if not always and (self.due(now) or not self._changed):
            return
        self._changed, self._written = False, now.mono
        data = orjson.dumps(self.content(now), option=orjson.OPT_APPEND_NEWLINE)
        try:
            self._prepare()
            self.disk.append(self._next_file, data)
            self.disk.move(self._next_file, layout.status(self.state.node))
            self._prepared = False
            self._prepare()
        except (DiskFull, Missing):
            self._changed = True  # no sign of life is better than none of the queue
            self._overwrite(data)
        except Failing as problem:
            self._changed, self._prepared = True, False
            unwritten(layout.status(self.state.node), problem)
        else:
            UNWRITTEN.discard(layout.status(self.state.node))

    def _overwrite(self, data: bytes) -> None:
        """Where there is no room: into the blocks of the file that is there, with spaces at the end."""
        path = layout.status(self.state.node)
        with suppress(OSError):
            info = self.disk.info(path)
            if info is not None and len(data) <= -(-info.size // BLOCK) * BLOCK:
                self.disk.mark(path, data.ljust(info.size))

    def _prepare(self) -> None:
        """An empty file for the next status, made ahead: a disk without inodes is to be told of."""
        if self._prepared:
            return
        write_anew(self.disk, self._next_file, b"")
        self._prepared = True

    def content(self, now: Now) -> dict[str, Any]:
        """The status as a value."""
        state = self.state
        following = state.next_event()
        waits = state.full
        return {
            "v": 1,
            "node": state.node,
            "pid": os.getpid(),
            "started_at": format_utc(self.started.wall),
            "written_at": format_utc(now.wall),
            "up": round((now.mono - self.started.mono) / 1e6, 3),
            "state": state.paused() or "running",
            "next": _next(following) if following else None,
            "wakes_in": deadlines.next_wake(state, now) / 1e6,
            "running": [_run(run, now) for run in islice(state.runs.values(), SHOWN)],
            "running_total": len(state.runs),
            "limit": state.limit,
            "load": round(os.getloadavg()[0], 2),
            "processes": state.processes,
            "in_memory": {
                "high": sum(len(w) for w in state.lanes[PRIORITIES[0]].values()),
                "medium": sum(len(w) for w in state.lanes[PRIORITIES[1]].values()),
                "low": sum(len(w) for w in state.lanes[PRIORITIES[2]].values()),
                "future": len(state.future),
                "deadlines": len(state.urgent),
            },
            "gate": state.gate.plain(now),
            "held_back": _held_back(state),
            "pauses": [_pause(row) for row in state.pauses],
            "full_outboxes": sorted(filter(state.is_full, waits)),
            "filling_outboxes": sorted(filterfalse(state.is_full, waits)),
            "counts": dict(state.counts),
            "lately": state.meter.lately(now.wall),
            "python": self.workers(),
            "no_cgroup": self.groups.problem if self.groups is not None else None,
            "left_alone": self.left_alone(),
            "clock_doubted": _doubt(state, now),
            **self.extra,
            **self.others(),
        }


def _doubt(state: State, now: Now) -> dict[str, str] | None:
    if not state.trust.doubts(now):
        return None
    until = now.wall + state.trust.until - now.mono
    return {"known": format_utc(state.trust.time(now)), "until": format_utc(until)}


def _next(entry: Any) -> dict[str, Any]:
    return {
        "id": entry.id,
        "task": entry.task,
        "at": format_utc(entry.time),
        "class": entry.prio,
        "entry": layout.pending(entry),
    }


def _run(run: Any, now: Now) -> dict[str, Any]:
    return {
        "id": run.entry.id,
        "task": run.entry.task,
        "attempt": run.entry.attempt,
        "class": run.entry.prio,
        "started_at": format_utc(run.started),
        "seconds": round((now.mono - run.began) / 1e6, 3),
        "handler": run.handler.pattern if run.handler else None,
        "parent": run.parent,
        "ending": run.ending or None,
        "progress": run.progress,
    }


def _pause(row: dict[str, Any]) -> dict[str, Any]:
    shown = dict(row)
    for name in ("since", "until"):
        if shown.get(name) is not None:
            shown[name] = format_utc(int(shown[name]))
    return shown


def _held_back(state: State) -> list[dict[str, Any]]:
    """Lanes with ready tasks that may not start, and why, in words; `key`: only those of this mark.

    Of a handler KEYS keys have rows of their own, and the others one for each limit they wait for.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    whole: dict[Lane, str] = {}
    named: Counter[str] = Counter()
    for prio, lanes in state.lanes.items():
        for lane, window in lanes.items():
            pattern, all_keys = lane[0], (*lane[:3], "")
            if all_keys not in whole:
                whole[all_keys] = state.blocked(all_keys)
            groups = {"": len(window)} if whole[all_keys] else _of_keys(state, lane, window)
            for mark, count in groups.items():
                key, why = mark, whole[all_keys]
                if mark and named[pattern] >= KEYS:
                    limit = limits.full(state, state.settings.handlers.get(pattern), mark)
                    key, why = OTHERS, f"other keys of {pattern} wait as well ({limit})" if limit else ""
                elif mark:
                    why = state.blocked((*lane[:3], mark))
                    named[pattern] += bool(why)
                if count and why:
                    fresh = {"why": why, "handler": pattern or None, "key": key or None, "ready": 0}
                    row = found.setdefault((why, pattern, key), {**fresh, "keys": 0, "classes": []})
                    row["ready"] += count
                    row["keys"] += key == OTHERS
                    row["classes"] += [prio] if prio not in row["classes"] else []
    return sorted(found.values(), key=lambda row: row["key"] == OTHERS)


def _of_keys(state: State, lane: Lane, window: Window[str]) -> Counter[str]:
    """How many wait of each key of a lane whose handler limits keys; at the head, where it has many."""
    if lane[3]:
        return Counter({lane[3]: len(window)})
    handler = state.settings.handlers.get(lane[0])
    if handler is None or handler.by is None:
        return Counter()
    return Counter(entry.mark for entry in window.head(limits.LOOK) if entry.mark)
