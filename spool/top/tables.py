"""The views of `spool top` as tables: what is in which column, from data. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool import layout
from spool.command.render import width_of
from spool.daemons import last_seen, up
from spool.heldfor import words
from spool.safe import safe
from spool.scene.lists import is_wanted
from spool.scene.words import bar, number, seconds
from spool.times import DAY, HOUR, SECOND, WEEK, format_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spool.scene.moment import Moment
    from spool.views import Listed

VIEWS = ("running", "waiting", "held", "failed", "done", "cancelled", "errors", "nodes", "outboxes")
LISTED = {"waiting": layout.PENDING, **{s: s for s in (layout.HELD, *layout.ENDED)}}
TAIL = 8  # digits of an id that tell it from its neighbours
BAR = 14
GAP = 2  # between two columns
SHORT = {"TASK": 16, **dict.fromkeys(("TYPE", "BY", "NODE", "NOTE", "WHY", "MESSAGE"), 8)}


class Row(Struct, frozen=True):
    """One line: what it stands for (the id of a task, a fingerprint), its cells (text, style)."""

    key: str
    cells: tuple[tuple[str, str], ...]


class Table(Struct, frozen=True):
    """`heads`: the columns; `rows`; `empty`: what is said where there are none."""

    heads: tuple[str, ...]
    rows: list[Row]
    empty: str


def table(view: str, moment: Moment, listed: Sequence[Listed], wanted: str) -> Table:
    """One of VIEWS. `listed`: the tasks of a view in LISTED; `wanted`: the filter."""
    match view:
        case "running":
            return _running(moment, wanted)
        case "errors":
            return _errors(moment, wanted)
        case "nodes":
            return _nodes(moment)
        case "outboxes":
            rows = [_row(p, p, number(n)) for p, n in moment.status["outboxes"].items()]
            return Table(("PARENT", "UNREAD"), rows, "no parent has an outbox")
        case _:
            return _tasks(view, moment, listed, wanted)


def widths(found: Table, room: int) -> list[int]:
    """Of the columns: each as wide as its longest cell; those in SHORT give way until all fit."""
    texts = zip(found.heads, *([safe(text) for text, _ in row.cells] for row in found.rows), strict=True)
    wide = [min(room, max(map(width_of, column))) for column in texts]
    over = sum(wide) + GAP * len(wide) - room
    for _ in range(over):
        free = [at for at, head in enumerate(found.heads) if wide[at] > SHORT.get(head, room)]
        if not free:
            break
        wide[max(free, key=wide.__getitem__)] -= 1
    return wide


def _row(key: str, *cells: object) -> Row:
    found = [cell if isinstance(cell, tuple) else (str(cell), "") for cell in cells]
    return Row(key, tuple(found))


def _running(moment: Moment, wanted: str) -> Table:
    heads = ("TASK", "ID", "TRY", "CLASS", "PROGRESS", "FOR", "USUAL", "BY", "NOTE")
    rows = []
    for run in map(moment.run, moment.running):
        task, task_id = str(run["task"]), str(run["id"])
        if not is_wanted(wanted, task, task_id):
            continue
        note = str(run["note"] or "")
        if run.get("ending"):
            note = f"ending: {run['ending']} {note}"
        rows.append(
            _row(
                task_id,
                task,
                _tail(task_id),
                run.get("attempt"),
                run.get("class"),
                progress(run),
                (seconds(run["spent"]), "yellow" if run["slow"] else ""),
                (seconds(run["usual"]), "dim"),
                run.get("handler") or run.get("parent"),
                note,
            )
        )
    left = moment.status["counts"][layout.RUNNING] if not moment.alive else 0
    unknown = f"{number(left)} in running/, no spoold tells of them"
    return Table(heads, rows, unknown if left else f"nothing runs{_asked(wanted)}")


def progress(run: dict[str, Any]) -> tuple[str, str]:
    """A bar: what the task says of itself; else, dimmed, the share of the usual time."""
    percent, guess = run["percent"], run["guess"]
    if percent is not None:
        return f"{bar(percent / 100, BAR - 5)}{percent:>4.0f}%", "cyan"
    return ("", "") if guess is None else (bar(guess / 100, BAR - 5), "dim")


def _tasks(view: str, moment: Moment, listed: Sequence[Listed], wanted: str) -> Table:
    ended = view in layout.ENDED
    times = ("WAS DUE",) if ended else ("WHEN", "DEADLINE")
    heads = ("TASK", "ID", "TRY", "CLASS", *times, "WHY")
    rows = []
    for one in listed:
        late = one.deadline is not None and one.deadline < moment.now and view in ("waiting", "held")
        deadline = "" if one.deadline is None else when(one.deadline, moment.now)
        waits = one.entry.fails and one.state != layout.FAILED
        why = words(one.why).few or (f"failed {one.entry.fails} times" if waits else "")
        rows.append(
            _row(
                one.id,
                one.task,
                _tail(one.id),
                one.attempt,
                (one.priority, "bold" if one.priority == "high" else ""),
                when(one.at, moment.now, ready=view == "waiting"),
                *(() if ended else ((deadline, "red" if late else ""),)),
                why,
            )
        )
    said = {"waiting": "nothing waits", "held": "nothing is held"}.get(view, f"nothing is {view}")
    but = " but what is in incoming/" if view == "waiting" and moment.untaken else ""
    return Table(heads, rows, said + (_asked(wanted) or but))


def _errors(moment: Moment, wanted: str) -> Table:
    heads = ("TASK", "TYPE", "1H", "24H", "7D", "ALL", "LAST", "STATE", "MESSAGE")
    rows = []
    for group in moment.groups:
        if not is_wanted(wanted, group.task, group.fingerprint):
            continue
        counts = [number(group.within(span, moment.now)) for span in (HOUR, DAY, WEEK)]
        last = when(group.last, moment.now)
        style = "dim" if group.state != "open" else "red"
        rows.append(
            _row(
                group.fingerprint,
                (group.task, style),
                group.type,
                *counts,
                number(group.count),
                last,
                group.state,
                group.message,
            )
        )
    return Table(heads, rows, f"no errors{_asked(wanted)}")


def _nodes(moment: Moment) -> Table:
    heads = ("NODE", "STATE", "PID", "RUNS", "SLOTS", "UP", "GATE", "DONE", "FAILED", "SEEN")
    rows = []
    for name, node in moment.status["nodes"].items():
        counts, gate = node.get("counts") or {}, node.get("gate") or {}
        state = (str(node.get("state")), "green") if node["alive"] else ("gone", "red")
        span, seen = up(node, moment.now) if node["alive"] else None, last_seen(node)
        rows.append(
            _row(
                name,
                name,
                state,
                node.get("pid", ""),
                node.get("running_total", "") if node["alive"] else "",
                node.get("limit", ""),
                "" if span is None else format_span(span),
                "shut" if gate.get("open") is False else "open",
                number(counts.get("done", 0)),
                number(counts.get("failed", 0)),
                when(seen, moment.now) if seen else "",
            )
        )
    return Table(heads, rows, "no daemon has served this spool yet")


def when(us: int, now: int, *, ready: bool = False) -> str:
    """An instant relative to now; `ready`: what is due already has been so for this long."""
    if us > now + SECOND:
        return f"in {format_span(us - now)}"
    if now - us < SECOND:
        return "now"
    return f"ready {format_span(now - us)}" if ready else f"{format_span(now - us)} ago"


def _asked(wanted: str) -> str:
    return " that is asked for" if wanted else ""


def _tail(task_id: str) -> str:
    return f"…{task_id[-TAIL:]}"
