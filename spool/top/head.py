"""The lines above the table: how many tasks stand where, what is next, what holds the queue. Pure."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

from spool.command.render import width_of
from spool.daemons import asker
from spool.gated import sentence
from spool.heldback import of_all, outboxes
from spool.names import PRIORITIES
from spool.safe import safe
from spool.scene.flow import quantile, total
from spool.scene.words import number, seconds, short, spark
from spool.times import MINUTE, SECOND, format_span, parse_utc
from spool.top.tables import when

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.scene.flow import Flow
    from spool.scene.moment import Moment

Part = tuple[str, str]  # text, style
Line = list[Part]
TICK = 10 * SECOND  # what one cell of a sparkline stands for
LINES = 7  # where what holds the queue needs no more than one
BEHIND = "nothing but what waits until its parent has read"
LABEL = 8  # columns before what a line says
STATES = {  # and how they are called where there is little room
    "high": "high",
    "medium": "med",
    "low": "low",
    "held": "held",
    "running": "run",
    "done": "done",
    "failed": "fail",
    "cancelled": "canc",
}
COLOURS = {"high": "bold", "held": "yellow", "running": "cyan", "failed": "red", "done": "green"}


def head(
    moment: Moment, flow: Flow, width: int, clock: Callable[[int], str], *, most: int = 1
) -> list[Line]:
    """LINES lines of `width` columns; what holds the queue may take `most`. `clock` shows an instant."""
    return [
        _title(moment, width, clock),
        _states(moment, width),
        _next(moment),
        *_holds(moment, width, clock, most),
        *_flows(flow, moment.now, width),
        _errors(moment),
    ]


def _title(moment: Moment, width: int, clock: Callable[[int], str]) -> Line:
    alive = moment.alive
    right = clock(moment.now)
    if not alive:
        last = moment.last_seen and f", last seen {when(moment.last_seen, moment.now)}"
        state, style = f"no spoold serves this spool{last or ''}", "bold red"
    else:
        words = sorted({str(node.get("state")) for node in alive})
        state = f"{', '.join(words)} on {', '.join(str(node['node']) for node in alive)}"
        style = "green" if words == ["running"] else "bold yellow"
    spool = str(moment.status["spool"])
    room = max(8, width - len(state) - len(right) - 6)
    spool = spool if len(spool) <= room else f"…{spool[-room + 1 :]}"
    gap = " " * max(2, width - len(spool) - len(state) - len(right) - 2)
    return [(spool, "bold"), ("  ", ""), (state, style), (gap, ""), (right, "dim")]


def _states(moment: Moment, width: int) -> Line:
    line = _counts(moment, wide=True)
    if sum(len(text) for text, _ in line) > width:
        line = _counts(moment, wide=False)
    if not moment.status["complete"]:
        line.append(("  or more", "dim"))
    elif moment.status["counted_at"]:
        age = moment.now - parse_utc(moment.status["counted_at"])
        line.append((f"  {format_span(age)} old", "dim"))
    return line


def _counts(moment: Moment, *, wide: bool) -> Line:
    line: Line = [("waiting ", "dim")] if wide else []
    for name, little in STATES.items():
        waits = name in PRIORITIES
        many = moment.status["counts"][f"pending/{name}" if waits else name]
        style = COLOURS.get(name, "") if many else "dim"
        line += [(f"{name if wide else little} ", "dim"), (number(many) if wide else short(many), style)]
        last = name == list(STATES)[-1]
        line.append(
            ("" if last else " · " if wide and name == PRIORITIES[-1] else " " * (1 + wide), "dim")
        )
    return line


def _next(moment: Moment) -> Line:
    rows = moment.next
    if not rows:
        said = "no daemon tells" if rows is None else "nothing waits"
        return [("next    ", "dim"), (BEHIND if moment.unread else said, "dim")]
    following = min(rows, key=lambda row: str(row["at"]))
    due = parse_utc(following["at"]) - moment.now
    when = "now" if due < SECOND else f"in {format_span(due)}"
    said = f"{following['task']}  {following['class']}  {when}"
    return [("next    ", "dim"), (said, ""), (f"  {following['id']}", "dim")]


def _holds(moment: Moment, width: int, clock: Callable[[int], str], most: int) -> list[Line]:
    """What keeps ready tasks from starting, what all of them first: pauses, gate, outboxes, slots."""
    pauses = moment.status["pauses"]
    said = [f"{number(moment.untaken)} in incoming/, no spoold takes them in"] if moment.untaken else []
    said += [_pause(row) for row in pauses if not row.get("task")]
    said += filter(None, (sentence(node, moment.now, clock) for node in moment.alive))
    said += [f"{number(many)} ready: {why}" for why, many in of_all(moment.alive, clock).items()]
    said += outboxes(moment.alive, clock)
    errors = [node["settings_error"] for node in moment.alive if node.get("settings_error")]
    said += [f"settings not read again: {error}" for error in errors]
    said += [_pause(row) for row in pauses if row.get("task")]
    if not said:
        return [[("held up ", "dim"), ("by nothing, the gate is open" if moment.alive else "-", "dim")]]
    text = safe("; ".join(dict.fromkeys(said)))
    wide = width_of(text) > len(text)  # some characters take two columns
    room = max(1, (width - LABEL) // (1 + wide))
    lines = wrap(text, room, max_lines=most, placeholder="…", break_on_hyphens=False)
    return [[(" " * LABEL if n else "held up ", "dim"), (line, "yellow")] for n, line in enumerate(lines)]


def _pause(row: dict[str, Any]) -> str:
    verb = "drained" if row.get("kind") == "drain" else "paused"
    what = " ".join(filter(None, (row.get("task"), row.get("node") and f"node {row['node']}")))
    why = f": {row['why']}" if row.get("why") else ""
    return f"{verb}{f' {what}' if what else ''}{asker(row)}{why}"


def _flows(flow: Flow, now: int, width: int) -> list[Line]:
    """Sparklines of the last minutes, ten seconds a cell: what ended, and how long tasks waited."""
    cells = max(10, min(60, width // 2 - 24))
    buckets = flow.last(TICK, cells, now)
    minute = total(flow.last(TICK, 6, now))
    ended = [b.counts.get("done", 0) + b.counts.get("failed", 0) for b in buckets]
    waits = [quantile(b.waits, 0.95) or 0.0 for b in buckets]
    counts = minute.counts
    failures = counts.get("failures", 0)
    five = total(flow.last(MINUTE, 5, now))
    return [
        [
            ("ended   ", "dim"),
            (spark(ended), "green"),
            (f"  {number(counts.get('done', 0))} done", ""),
            (f", {number(failures)} failures", "red" if failures else "dim"),
            (f", {number(counts.get('taken', 0))} taken in a minute", "dim"),
        ],
        [
            ("waited  ", "dim"),
            (spark(waits), "cyan"),
            (f"  {_median(five.waits)}", ""),
            ("  ran ", "dim"),
            (_median(five.runs), ""),
            ("  p50/p95", "dim"),
        ],
    ]


def _median(counts: list[int]) -> str:
    return f"{seconds(quantile(counts, 0.5))} / {seconds(quantile(counts, 0.95))}"


def _errors(moment: Moment) -> Line:
    groups = [g for g in moment.groups if g.state == "open"]
    if not groups:
        return [("errors  ", "dim"), ("none open", "dim")]
    worst = groups[0]
    many = f"{len(groups)} group{'s' * (len(groups) != 1)}"
    said = f"{worst.task}: {worst.message}"
    return [("errors  ", "dim"), (many, "red"), (f", most: {worst.count} times {said}", "")]
