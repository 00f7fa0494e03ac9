"""Results of other tasks, put into the args of one that is about to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

from spool import layout, look, packs, waiting
from spool.errors import Damaged
from spool.results import NONE, RESULT, at, swapped

if TYPE_CHECKING:
    from spool.disk import Disk
    from spool.owncopy import Task
    from spool.place import Place


LOST = "args: a result in them is lost, for no whole record of its task is left"


class _Lacks(Exception):
    """A result that is not there; the text says which."""


def with_results(disk: Disk, place: Place, limit: int) -> Place:
    """A task with args of at most `limit` bytes that hold what they name; `lacks` where they cannot.

    A task that has ended otherwise than done, or (where somebody has released this one) has not
    ended, has no result: null, whatever the path.
    """
    task, left = place.task, limit

    def give(reference: dict[str, Any], where: str) -> Any:
        nonlocal left
        one, path = reference[RESULT], reference.get("path")
        try:
            found = at(_result(disk, task, one), path)
        except LookupError as step:
            shown = path if isinstance(path, str) else orjson.dumps(path).decode()
            text = f"{where}: the result of {one} has no {shown} (nothing at {step.args[0]})"
            raise _Lacks(text) from None
        left -= len(orjson.dumps(found))
        if left < 0:
            raise _Lacks(f"args: the results in them are more than {limit} bytes (max_action_bytes)")
        return found

    try:
        args = swapped(task.args, give, "args")
        orjson.dumps([[[[args]]]])  # as deep as it will stand in what is told and handed over
    except _Lacks as problem:
        return replace(place, lacks=str(problem))
    except TypeError as problem:
        return replace(place, lacks=f"args: the results in them cannot be written: {problem}")
    return replace(place, task=replace(task, args=args))


def _result(disk: Disk, task: Task, task_id: str) -> Any:
    """What a task came to; NONE where it is not done."""
    end = waiting.end_of(disk, task_id)
    if end is None and disk.stamp(layout.parent_of(layout.record(task_id, 1))) is not None:
        end = waiting.end_of(disk, task_id)  # who knows of the entry may not see its record yet, on NFS
    if end is None:
        if (state := _state(disk, task_id)) == layout.DONE:
            raise _Lacks(f"{LOST}: {task_id}")
        known = state is not None or disk.info(layout.own_copy(task_id)) is not None
        if not known and waiting.put_aside(disk, task_id) is None:
            raise _Lacks(f"args: the result of {task_id} is no longer kept")
    if end is None or end["event"] != "done":
        return NONE
    if end.get("error"):  # a record that `spool fsck --repair` has made
        raise _Lacks(f"{LOST}: {task_id}")
    by = {"uid": task.uid, "key": task.signer}
    if task.writer is not None and end.get("submitted_by") != by:
        raise _Lacks(f"args: {task_id}, whose result they name, is of another writer")
    return end.get("result")


def _state(disk: Disk, task_id: str) -> str | None:
    """The state of a task without a whole record; None where it is not known."""
    try:
        place = look.find(disk, task_id) or packs.find(disk, task_id)
    except Damaged as problem:
        return problem.path.partition("/")[0]
    return None if place is None else place.state
