"""`spool why`: one line on why a task does not run yet, or what became of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.command.main import complain
from spool.errors import Invalid, NoSuchTask, Refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from spool.client import Spool
    from spool.views import TaskView
    from spool.why import Why


OF_ONE = (Invalid, NoSuchTask, Refused)  # what may be wrong with one task, and with no other


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    options_of.add_ids(parser)
    options_of.add_json(parser, "print one JSON object a line: id, state, why")


def run(args: argparse.Namespace) -> int:
    """Explain each."""
    from spool.command import render
    from spool.safe import safe

    spool = options_of.open_spool(args)
    reasons = explainer(spool)

    def explain(task_id: str) -> None:
        state, text = _explained(spool, reasons, task_id)
        if args.json:
            print(render.json_line({"id": task_id, "state": state, "why": text}))
        else:
            print(safe(text if len(args.ids) == 1 and args.ids != ["-"] else f"{task_id} {text}"))

    return each(options_of.ids_of(args.ids), explain)


def each(ids: list[str], tell: Callable[[str], object]) -> int:
    """Tell of each; one that cannot be told of is an error, and the others are told of."""
    status = 0
    for task_id in ids:
        try:
            tell(task_id)
        except OF_ONE as problem:
            complain(problem)
            status = status or problem.exit_code
    return status


def explainer(spool: Spool) -> Why:
    """Explanations with times as the user's clock shows them."""
    from spool.command import render
    from spool.why import Why

    now = time.time_ns() // 1000
    return Why(spool.disk, spool.path, now, lambda us: render.until(us, now))


def known(spool: Spool, task_id: str) -> TaskView:
    """The task; Refused where its submission was, NoSuchTask."""
    from spool import dropped
    from spool.names import is_id

    try:
        return spool.get(task_id)
    except NoSuchTask:
        if not is_id(task_id):
            raise
        now, disk = time.time_ns() // 1000, spool.disk
        why = dropped.refusal(disk, task_id, now) or dropped.nameless_refusal(disk, task_id)
        if why is None:
            raise
        raise Refused(task_id, why) from None


def _explained(spool: Spool, reasons: Why, task_id: str) -> tuple[str, str]:
    """(state, why); a submission that was refused has a reason too."""
    try:
        task = known(spool, task_id)
    except Refused as problem:
        return "refused", f"refused: {problem.reason}"
    return task.state, reasons.line(task)
