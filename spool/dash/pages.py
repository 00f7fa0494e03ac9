"""What each page says: plain values for the templates, from what the source knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool import heldfor, layout
from spool.closed import telling
from spool.command.render import clock, when
from spool.daemons import asker, last_seen, start_hint
from spool.dash import plots
from spool.dash.flows import RANGES, clocks, flow
from spool.dash.plots import Frame, Series
from spool.errors import Invalid, NoSuchTask, SpoolError
from spool.gated import sentence
from spool.heldback import HeldBack, of_all, outboxes
from spool.journal import Filter
from spool.names import PRIORITIES, id_time, is_id
from spool.scene import calendar, lists, past, recurring
from spool.scene.words import short
from spool.times import DAY, HOUR, WEEK, parse_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spool.client import Spool
    from spool.dash.source import Source
    from spool.disk import RealDisk
    from spool.scene.moment import Moment
    from spool.scene.past import Found

MANY = 200  # tasks in a list
LINES = 200  # of the history
SEARCH = 0.15  # seconds
SPANS = {"1h": HOUR, "24h": DAY, "7d": WEEK}


class Facts(Struct, frozen=True):
    """What all pages begin with."""

    moment: Moment
    now: int

    def time(self, us: int | str | None) -> str:
        """An instant, with its date where that is not today, in the user's time zone."""
        found = parse_utc(us) if isinstance(us, str) else us
        return "" if found is None else clock(found, self.now)[:19]

    def ago(self, us: int | str | None) -> str:
        """The same relative to now."""
        found = parse_utc(us) if isinstance(us, str) else us
        return "" if found is None else when(found, self.now)

    def usual(self, task: str) -> float | None:
        """What tasks of a name take, in seconds."""
        return self.moment.usual.get(task)


def head(source: Source) -> dict[str, Any]:
    """For the top of every page."""
    moment = source.moment
    alive = moment.alive
    held: list[str] = []
    for node in alive:
        shut = sentence(node, moment.now, lambda us: clock(us, moment.now))
        held += [shut] if shut else []
        if node.get("settings_error"):
            held.append(f"spool.toml was not read again: {node['settings_error']}")
    return {
        "facts": Facts(moment, moment.now),
        "spool": moment.status["spool"],
        "last_seen": moment.last_seen,
        "untaken": moment.untaken,
        "start": "" if alive else start_hint(moment.status["spool"]),
        "states": sorted({str(node.get("state")) for node in alive}),
        "alive": alive,
        "held_up": held,
        "trouble": source.trouble,
        "pauses": moment.status["pauses"],
        "asker": asker,
        "counts": moment.status["counts"],
        "counted_at": moment.status["counted_at"],
        "complete": moment.status["complete"],
        "open_errors": sum(1 for g in moment.groups if g.state == "open"),
        "priorities": PRIORITIES,
    }


def overview(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """The first page."""
    moment = source.moment
    chosen = query.get("range", "1h")
    chosen = chosen if chosen in RANGES else "1h"
    return {
        "range": chosen,
        "ranges": RANGES,
        **flow(source, chosen, moment.now),
        "next": moment.next,
        "runs": [moment.run(row) for row in moment.running[:12]],
        "runs_more": max(0, sum(n.get("running_total", 0) for n in moment.alive) - 12),
        "waits": of_all(moment.alive, lambda us: clock(us, moment.now)),
        "full": outboxes(moment.alive, lambda us: clock(us, moment.now)),
        "groups": [g for g in moment.groups if g.state == "open"][:6],
        "outboxes": {p: n for p, n in moment.status["outboxes"].items() if n},
        "reading": source.left if source.left > 1 << 20 else 0,
    }


def queue(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """What waits: ages by name and class, and the first of them in their order."""
    from spool.shape import LABELS

    wanted = query.get("task", "").strip()
    now = source.moment.now
    (shape, _), (rows, age) = source.lists({
        "shape": lambda _: source.spool.shape(),
        ("waiting", wanted): lambda disk: lists.waiting(disk, source.moment.now, MANY, wanted),
    })  # fmt: skip
    held = HeldBack(source.spool.disk, source.moment.alive, lambda us: clock(us, now))
    rows = rows and held.told(rows, now)
    names = []
    for name, by_class in (shape or {"tasks": {}})["tasks"].items():
        if wanted and not lists.is_wanted(wanted, name, ""):
            continue
        names += [(name, prio, counts, sum(counts)) for prio, counts in by_class.items()]
    names.sort(key=lambda row: (-row[3], row[0], row[1]))
    most = max((n for row in names for n in row[2]), default=1)
    counted = None if shape is None else min(now, parse_utc(shape["at"]))  # beside this page: a bit later
    return {
        "counted": counted,
        "wanted": wanted, "shape": shape, "labels": ("later", *LABELS), "names": names[:100],
        "most": most, "rows": rows, "age": age, "many": MANY,
    }  # fmt: skip


def tasks(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """The tasks of a state but pending. Raises Invalid where it is none."""
    choices = [s for s in layout.STATES if s != layout.PENDING]
    state = query.get("state", layout.RUNNING)
    if state not in choices:
        raise Invalid("state", state, f"must be one of {', '.join(choices)}; what waits is in the queue")
    wanted = query.get("task", "").strip()
    rows, age = source.list(
        (state, wanted), lambda disk: lists.told(disk, lists.newest(disk, state, MANY, wanted))
    )
    found = {str(row["id"]): source.moment.run(row) for row in source.moment.running}
    return {"state": state, "wanted": wanted, "rows": rows, "age": age, "many": MANY, "running": found,
            "held_for": heldfor.words, "choices": choices}  # fmt: skip


def task(source: Source, task_id: str) -> dict[str, Any]:
    """All of a task's life. NoSuchTask."""
    from spool.why import Why

    if not is_id(task_id):
        raise NoSuchTask(task_id)
    spool, now = source.spool, source.moment.now
    story = _story(spool, task_id, id_time(task_id))
    hint = next((str(line["entry"]) for line in story.lines if line.get("entry")), None)
    view = spool.get(task_id, hint=hint)
    if view.submitted_at is not None and view.submitted_at < id_time(task_id):
        story = _story(spool, task_id, view.submitted_at)  # its id was made by another clock
    explain = Why(spool.disk, spool.path, now, lambda us: f"{clock(us, now)} ({when(us, now)})")
    attempts = [*(r["attempt"] for r in view.attempts)]
    if view.state == layout.RUNNING:
        attempts.append(view.attempt)
    logs = {n: spool.disk.info(layout.log(task_id, n)) for n in attempts}
    moment = source.moment
    running = next((moment.run(row) for row in moment.running if row["id"] == task_id), None)
    return {
        "task": view, "why": explain.line(view), "story": story,
        "records": list(reversed(view.attempts)), "running": running,
        "logs": {n: info.size for n, info in logs.items() if info is not None},
        "log_of": max((n for n, info in logs.items() if info is not None), default=None),
    }  # fmt: skip


def _story(spool: Spool, task_id: str, since: int) -> Found:
    """What the journal tells of a task, latest first."""
    wanted = Filter(ids=frozenset((task_id,)), since=since)
    return past.search(spool.path, wanted, LINES, SEARCH)


def errors(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """The groups of errors by how many a span of time saw."""
    span = query.get("span", "24h")
    span = span if span in SPANS else "24h"
    wanted, every = query.get("task", "").strip(), bool(query.get("all"))
    now = source.moment.now
    found = [g for g in source.moment.groups if every or g.state == "open"]
    found = [g for g in found if not wanted or lists.is_wanted(wanted, g.task, g.fingerprint)]
    found.sort(key=lambda g: (-g.within(SPANS[span], now), -g.last))
    counts = {g.fingerprint: {name: g.within(us, now) for name, us in SPANS.items()} for g in found}
    sparks = {g.fingerprint: [g.histogram.get("hours", {}).get(now // HOUR * HOUR - back * HOUR, 0)
                              for back in range(23, -1, -1)] for g in found}  # fmt: skip
    return {"groups": found, "span": span, "spans": SPANS, "per": counts, "sparks": sparks,
            "wanted": wanted, "every": every}  # fmt: skip


def error(source: Source, fingerprint: str) -> dict[str, Any] | None:
    """One group, None where there is none."""
    group = next((g for g in source.moment.groups if g.fingerprint == fingerprint), None)
    if group is None:
        return None
    now = source.moment.now
    starts = [now // HOUR * HOUR - back * HOUR for back in range(47, -1, -1)]
    frame = Frame(title="Failures", starts=starts, width=HOUR, say=short, **clocks(HOUR, now))
    hours = group.histogram.get("hours", {})
    plot = plots.bars(frame, [Series("failures", [hours.get(us, 0) for us in starts], "s-failed")])
    return {
        "group": group,
        "plot": plot,
        "per": {name: group.within(us, now) for name, us in SPANS.items()},
    }


def schedule(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """What recurs and when, and what is due in the coming days, hour by hour."""
    wanted = query.get("task", "").strip()
    now = source.moment.now
    (schedules, old), (found, age) = source.lists({
        "schedules": lambda disk: _schedules(disk, source.moment.now),
        ("due", wanted): lambda disk: calendar.hours(disk, source.moment.now, wanted),
    })  # fmt: skip
    days = calendar.coming(found, now) if found is not None else []
    return {"wanted": wanted, "days": days, "found": found, "age": age, "schedules": schedules,
            "old": old, "most": max((n for _, row in days for _, n in row), default=0)}  # fmt: skip


def _schedules(disk: RealDisk, now: int) -> dict[str, Any]:
    """The schedules and their coming days, or why they cannot be told."""
    try:
        with telling(disk.root):
            known = recurring.settings_of(disk)
    except (SpoolError, OSError) as problem:
        return {"problem": str(problem), "rows": [], "days": [], "often": []}
    rows = list(recurring.rows(disk, known, now))
    days, often = recurring.calendar(known, now, rows)
    return {"problem": "", "rows": rows, "days": days, "often": often}


def history(source: Source, query: Mapping[str, str]) -> dict[str, Any]:
    """Lines of the journal, latest first. Raises Invalid where a filter is none."""
    from spool.command.parser import instant

    given = {
        name: query.get(name, "").strip()
        for name in ("id", "task", "state", "event", "key", "error", "parent", "node", "since", "until")
    }
    wanted = Filter(
        ids=frozenset(given["id"].split()),
        since=instant(given["since"] or None, "since", source.spool),
        until=instant(given["until"] or None, "until", source.spool),
        task=given["task"] or None,
        state=given["state"] or None,
        event=given["event"] or None,
        key=given["key"] or None,
        error=given["error"] or None,
        parent=given["parent"] or None,
        node=given["node"] or None,
    )
    found = past.search(source.spool.path, wanted, LINES, SEARCH)
    return {
        "given": given,
        "found": found,
        "choices": layout.STATES,
        "query": {k: v for k, v in given.items() if v},
    }


def nodes(source: Source) -> dict[str, Any]:
    """The daemons, and what tasks usually take."""
    moment = source.moment
    return {"nodes": moment.status["nodes"], "seen": last_seen, "outboxes": moment.status["outboxes"],
            "usual": sorted(moment.usual.items(), key=lambda row: -row[1])[:50]}  # fmt: skip
