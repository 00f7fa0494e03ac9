"""A task of the past as a new one; the same replay of the same task makes the same one again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool.names import id_from
from spool.results import renamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spool.owncopy import Task


def new_id(key: str, base: int, old: str) -> str:
    """The id of what a task becomes: the same whenever the same replay (`key`, of `base` us UTC) runs."""
    return id_from(base, hashlib.sha256(f"{key}.{old}".encode("utf-8", "surrogateescape")).digest())


def again(task: Task, key: str, base: int, uid: int | None, before: Mapping[str, str]) -> Task:
    """The new task: everything as it was, due at `base`, its deadline as far ahead as it was.

    It waits for what those it waited for become, as far as they are replayed too: `before`, by id.
    """
    old = task.id or ""
    ahead = None if task.deadline is None else base + max(0, task.deadline - task.at)
    return replace(
        task,
        id=new_id(key, base, old),
        at=base,
        deadline=ahead,
        submitted_at=base,
        uid=uid,
        replay_of=old,
        duplicate_of=None,
        after=tuple(before[one] for one in task.after if one in before),
        results=tuple(before.get(one, one) for one in task.results),
        args=renamed(task.args, before) if task.results and before else task.args,
    )
