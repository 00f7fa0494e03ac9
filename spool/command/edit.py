"""`spool edit`: a pending task in an editor; what comes out takes its place."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from spool import layout
from spool.command import parser as options_of
from spool.command.change import matching
from spool.disk import link_anew
from spool.errors import EX_TEMPFAIL, Invalid, Refused, SpoolError
from spool.modes import serving
from spool.names import new_id
from spool.streams import telling

if TYPE_CHECKING:
    import argparse

    from spool.client import Spool

OURS = ("v", "id", "submitted_at", "submitted_by", "digest", "results", "recurring", "duplicate_of")
OVER = ("after", "on_failure", "on_duplicate")  # a task that is pending waits for no other any more
PATIENCE = 30.0  # seconds for the daemon to hold the old one
EPILOG = """
A task never changes once it is taken in: the new one has an id of its own, which is printed, and
the old one's time, class and place, and its checkpoint where you are root or who serves the spool.
When you have written, the old one is held, so that it cannot start, and cancelled once the new one
is safe. If it has started while you were writing, or the new one is refused, nothing is changed and
your text is kept. One that others wait for is not edited: they wait for the old one. What it has
waited for itself is over, and is not in the text.
The editor is $VISUAL, else $EDITOR, else vi.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    options_of.add_id(parser, "id of a task that is pending")
    options_of.add_json(parser, "print the ids as JSON")


def run(args: argparse.Namespace) -> int:
    """Edit, check, put it in place."""
    import orjson

    from spool import daemons

    spool, args.id = options_of.open_spool(args), options_of.one_id(args)
    before = _read(spool, args.id)
    for other in matching(spool, "cancel", {"after": args.id, "state": layout.HELD}):
        raise Invalid("id", args.id, f"cannot be edited: {other} waits for it")
    if not daemons.any_alive(spool.disk, spool.path):
        print("spool: no spoold serves this spool, which must hold the task", file=sys.stderr)
        return EX_TEMPFAIL
    fd, path = tempfile.mkstemp(suffix=".json", prefix="spool-")
    with open(fd, "wb") as file:
        file.write(orjson.dumps(before, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    try:
        after = _edited(spool, path)
        if after == before:
            print("spool: nothing has changed", file=sys.stderr)
        else:
            if (key := after.get("key")) is not None and key == before.get("key"):
                after["on_duplicate"] = "replace"
            _replace(spool, args, after)
    except BaseException:
        if os.path.exists(path):
            print(f"spool: the text is in {path}", file=sys.stderr)
        raise
    os.unlink(path)
    return 0


def _read(spool: Spool, task_id: str) -> dict[str, Any]:
    """The task as an action would submit it where it stands now."""
    import orjson

    from spool.look import BODY_LIMIT
    from spool.times import format_utc

    task = spool.get(task_id)
    if task.state != layout.PENDING or task.entry is None:
        raise Invalid("id", task_id, f"is {task.state}; only a pending task can be edited")
    doc: dict[str, Any] = orjson.loads(spool.disk.read(task.path, BODY_LIMIT))
    doc = {name: value for name, value in doc.items() if name not in (*OURS, *OVER)}
    doc |= {"at": format_utc(task.entry.time), "priority": task.entry.base}
    if task.deadline is not None:
        doc["deadline"] = format_utc(task.deadline)
    doc.pop("position", None)
    return doc | ({"position": "front"} if task.entry.front else {})


def _edited(spool: Spool, path: str) -> dict[str, Any]:
    """What the editor leaves, valid. Invalid."""
    import shlex

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    while True:
        try:
            done = subprocess.run([*shlex.split(editor), path], check=False)
        except (OSError, ValueError) as problem:
            os.unlink(path)
            why = problem.strerror if isinstance(problem, OSError) else problem
            raise Invalid("VISUAL or EDITOR", editor, f"cannot be run: {why}") from None
        if done.returncode:
            raise Invalid("editor", editor, f"exited with {done.returncode}")
        try:
            return _task(spool, path)
        except Invalid as problem:
            if not _again(problem):
                raise


def _task(spool: Spool, path: str) -> dict[str, Any]:
    from spool.strict import decode

    with open(path, "rb") as file:
        found = decode(file.read(), limit=spool.max_action_bytes)
    for name in {"action", "every"} & found.keys():
        raise Invalid(name, found[name], "must not stand in a task that is edited")
    spool.preview({**found, "id": new_id()})
    return found


def _again(problem: Invalid) -> bool:
    from spool.safe import safe

    if not sys.stdin.isatty():
        return False
    print(f"spool: {safe(problem)}", file=sys.stderr)
    return input("Edit again? [Y/n] ").strip().lower() not in ("n", "no")


def _replace(spool: Spool, args: argparse.Namespace, doc: dict[str, Any]) -> None:
    """Hold the old one, submit the new one, cancel the old one: at every moment one of them may run."""
    place = f"{spool.path}/{layout.files(args.id)}"
    if "files" in doc:
        doc = {**doc, "files": {name: f"{place}/{name}" for name in doc["files"]}}
    try:
        spool.carried_out(spool.hold(args.id, why="it is being edited"), PATIENCE)
    except Refused as problem:
        rule = problem.each.get(args.id, problem.reason)
        raise Refused(args.id, f"{rule}; nothing was changed") from None

    def released(why: str) -> Refused:
        try:
            spool.carried_out(spool.release(args.id, why="it was not edited"), PATIENCE)
        except Refused as problem:  # somebody else was at it
            return Refused(args.id, f"{why}; and {problem.reason}")
        return Refused(args.id, f"{why}; nothing was changed")

    try:
        _carry_over(spool, args.id, new := new_id())
        stem = spool.act({**doc, "id": new})
    except (SpoolError, OSError) as problem:
        raise released(str(problem)) from None
    try:
        if (why := _refused(spool, stem, new)) is None:
            spool.carried_out(spool.cancel(args.id, why=f"edited: {new}"), PATIENCE)
    except BaseException:  # the new one may run by now
        said = f"{new} was submitted; {args.id} is held until you release or cancel it"
        print(f"spool: {said}", file=sys.stderr)
        raise
    if why is not None:
        raise released(why)
    with telling(f"submitted {new} in place of {args.id}"):
        if args.json:
            from spool.command.render import json_line

            print(json_line({"id": new, "instead_of": args.id}))
        else:
            print(new)


def _carry_over(spool: Spool, old: str, new: str) -> None:
    """The new one goes on from the checkpoint of the old one: nobody writes to that while it is held.

    Only as who serves the spool: what another makes there may be closed to spoold.
    """
    source, target = layout.checkpoint(old), layout.checkpoint(new)
    try:
        if spool.disk.info(source) is None:
            return
        seen = "the"
    except PermissionError:
        if not spool.get(old).attempts:
            return
        seen = "any"
    me, uid = os.geteuid(), serving(spool.path, is_shared=False)
    if me not in (0, uid):
        said = f"{seen} checkpoint of {old} stays behind: only uid {uid}, who serves the spool, and root"
        print(f"spool: {said} take it along", file=sys.stderr)
        return
    os.seteuid(uid)
    try:
        link_anew(spool.disk, source, target)
        spool.disk.sync_dirs([layout.parent_of(target)])
    finally:
        os.seteuid(me)


def _refused(spool: Spool, stem: str, new: str) -> str | None:
    """Why a new task is not in the queue, or a duplicate; None where it is there."""
    try:
        spool.carried_out(stem, PATIENCE)
    except Refused as problem:
        return problem.reason
    twin = spool.get(new).duplicate_of
    return None if twin is None else f"its key is that of {twin}"
