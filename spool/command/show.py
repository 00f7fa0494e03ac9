"""`spool show`: all of a task's life: what it is, its attempts, its logs, its lines in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import layout
from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool
    from spool.views import TaskView


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    options_of.add_ids(parser)
    options_of.add_json(parser, "print one JSON object a task")


def run(args: argparse.Namespace) -> int:
    """Show each."""
    from spool.command import render
    from spool.command.why import each, known

    spools = options_of.open_spools(args)
    shown = False

    def tell(task_id: str) -> None:
        nonlocal shown
        spool = spools.find(task_id)
        task = known(spool, task_id)
        lines = _journal(spool, task)
        if args.json:
            logs = [layout.log(task_id, r["attempt"]) for r in task.attempts if r.get("log")]
            more = {"logs": logs, "unread": _unread(spool, task_id), "journal": lines}
            print(render.json_line({**task.plain(), **more}))
            return
        if shown:
            print()
        shown = True
        _show(spool, task, lines)

    return each(options_of.ids_of(args.ids), tell)


def _journal(spool: Spool, task: TaskView) -> list[dict[str, Any]]:
    """A task's lines in the journals of all nodes, oldest first; a line may come twice."""
    from spool import journal
    from spool.names import DAY_US

    if task.submitted_at is None:
        return []
    done = _done(task)
    wanted = journal.Filter(
        ids=frozenset((task.id,)),
        since=task.submitted_at - DAY_US,
        until=None if done is None else done + DAY_US,
    )
    return list(journal.read(spool.path, wanted))


def _done(task: TaskView) -> int | None:
    """When it was done, us UTC; what failed or was cancelled may have come back since."""
    from spool.times import parse_utc

    try:
        return parse_utc(task.attempts[-1]["ended_at"]) if task.state == layout.DONE else None
    except (IndexError, KeyError, TypeError, ValueError):
        return None  # what its record says is not for us to judge


def _unread(spool: Spool, task_id: str) -> list[str]:
    """The events of a task that no parent has deleted yet."""
    from spool.look import names

    found: list[str] = []
    for parent in names(spool.disk, layout.OUTBOX):
        box = f"{layout.OUTBOX}/{parent}"
        try:
            found += [f"{box}/{name}" for name in names(spool.disk, box) if f",{task_id}," in name]
        except PermissionError:
            continue  # of a parent who alone may look
    return found


def _show(spool: Spool, task: TaskView, lines: list[dict[str, Any]]) -> None:
    from spool.command import render
    from spool.command.why import explainer

    reasons = explainer(spool)
    now = reasons.now
    times = {"at": task.at, "deadline": task.deadline, "submitted": task.submitted_at}
    shown = {name: None if us is None else render.until(us, now) for name, us in times.items()}
    render.facts(
        [
            ("id", task.id),
            ("task", task.task),
            ("state", task.state),
            ("why", reasons.line(task)),
            ("class", task.priority),
            ("args", render.json_line(task.args)),
            *shown.items(),
            ("by", None if task.uid is None else f"uid {task.uid}"),
            ("signed by", task.signer),
            ("version", task.version),
            ("parent", task.notify),
            ("key", task.key),
            ("duplicate of", task.duplicate_of),
            ("after", " ".join(task.after) or None),
            ("on failure", task.on_failure),
            *(("has", f"{name} ({size} bytes)") for name, size in task.files.items()),
            ("recurring", None if task.recurring is None else render.json_line(task.recurring)),
            ("meta", render.json_line(task.meta) if task.meta else None),
            ("file", task.path),
            *(("unread", path) for path in _unread(spool, task.id)),
        ]
    )
    _attempts(task, now)
    if lines:
        print()
        render.table(("JOURNAL", "EVENT", "TO", "NODE", "MORE"), [_journal_row(li, now) for li in lines])


def _attempts(task: TaskView, now: int) -> None:
    from spool.command import render

    if task.attempts:
        print()
        head = ("ATTEMPT", "OUTCOME", "ENDED", "TOOK", "NODE", "LOG", "RESULT OR ERROR")
        render.table(head, [_attempt_row(record, now) for record in task.attempts])


def _attempt_row(record: dict[str, Any], now: int) -> tuple[Any, ...]:
    from spool.command import render

    seconds, error = record.get("seconds"), record.get("error")
    said = error.get("message") if isinstance(error, dict) else render.json_line(record.get("result"))
    return (
        record.get("attempt"),
        record.get("outcome"),
        _clock(record.get("ended_at"), now),
        render.span(seconds) if isinstance(seconds, int | float) else "",
        record.get("node"),
        record.get("log") or "",
        said,
    )


def _journal_row(line: dict[str, Any], now: int) -> tuple[Any, ...]:
    from spool.command import render

    told = ("at", "event", "id", "task", "from", "to", "entry", "node")
    more = {k: v for k, v in line.items() if k not in told and v is not None}
    return (
        _clock(line.get("at"), now),
        line.get("event"),
        line.get("to") or "",
        line.get("node"),
        render.json_line(more) if more else "",
    )


def _clock(text: Any, now: int) -> str:
    from spool.command import render
    from spool.times import parse_utc

    try:
        return render.clock(parse_utc(text), now)
    except (ValueError, TypeError):
        return str(text or "")
