"""Several spools side by side, used as one: where a single file server or machine has no more to give."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, Self

from spool import layout
from spool.batch import with_id
from spool.client import Spool
from spool.errors import Invalid, NoSuchTask
from spool.names import is_id, new_id
from spool.rendezvous import weight

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from spool.views import Event, TaskView

FRESH = 1.0  # seconds for which a count of what waits is good enough


class Spools:
    """Some spools; each task is in one of them. Safe to share between threads.

    A task with a `key` or an `id` of its own goes where that hashes to, so the same one always to the
    same spool; one with `after` goes where the first of those is; the others go by hash, or to the
    spool where the least waits. Nothing holds across spools but that: order, limits and keys are each
    spool's own.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str] | Spool],
        *,
        by: Literal["hash", "waiting"] = "hash",
        **options: Any,
    ) -> None:
        """Open spools, by the same paths everywhere: they are what is hashed; one may be open already.

        `options` as Spool takes them. Raises as Spool does, Invalid for no path or another `by`.
        """
        if by not in ("hash", "waiting"):
            raise Invalid("by", by, "must be hash or waiting")
        self.spools = [path if isinstance(path, Spool) else Spool(path, **options) for path in paths]
        if not self.spools:
            raise Invalid("paths", [], "must name at least one spool")
        self.by = by
        self._waiting: dict[str, int] = {}
        self._counted = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all directories."""
        for spool in self.spools:
            spool.close()

    def submit(self, task: str, args: object = None, /, **fields: Any) -> str:
        """As Spool.submit: submit one task and return its id."""
        if len(self.spools) == 1:
            return self.spools[0].submit(task, args, **fields)
        given = {name: value for name, value in fields.items() if value is not None}
        fixed = {"id": new_id(), **given}
        return self.place(given, fixed["id"]).submit(task, args, **fixed)

    def submit_one(self, task: Mapping[str, Any]) -> str:
        """As Spool.submit_one."""
        if len(self.spools) == 1:
            return self.spools[0].submit_one(task)  # it names the file after an id of its own
        fixed = task if "every" in task else {"id": new_id(), **task}
        return self.place(task, fixed.get("id")).submit_one(fixed)

    def submit_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """As Spool.submit_many, in order; all or none holds for each spool's files alone.

        A task with `after` goes where the first of those is, among these tasks too. Where one has a
        `ref`, all go where the first does.
        """
        if len(self.spools) == 1:
            return self.spools[0].submit_many(tasks)
        tasks = list(tasks)
        named = [with_id(task, f"tasks[{n}]") for n, task in enumerate(tasks)]
        where: dict[str, Spool] = {}
        shares: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        together = any("ref" in task for task in tasks)
        for given, task in zip(tasks, named, strict=True):
            known = next(iter(where.values()), None) if together else where.get(_first_of(given))
            spool = where[str(task["id"])] = known or self.place(given, str(task["id"]))
            shares[spool.path].append(task)
        for spool in self.spools:
            if share := shares.get(spool.path):
                spool.submit_many(share)
        return [str(task["id"]) for task in named]

    def find(self, task_id: str) -> Spool:
        """The spool a task is in; NoSuchTask."""
        if len(self.spools) == 1:
            return self.spools[0]
        likely = self._hashed(task_id)
        looked = sorted(self.spools, key=lambda spool: spool is not likely) if is_id(task_id) else ()
        for known in _LOOKS:
            for spool in looked:
                if known(spool, task_id):
                    return spool
        raise NoSuchTask(task_id)

    def get(self, task_id: str) -> TaskView:
        """As Spool.get."""
        return self.find(task_id).get(task_id)

    def wait(self, task_id: str, timeout: float | None = None) -> dict[str, Any]:
        """As Spool.wait."""
        return self.find(task_id).wait(task_id, timeout)

    def outbox(
        self,
        parent: str = layout.DEFAULT_PARENT,
        *,
        follow: bool = True,
        timeout: float | None = None,
        keep: bool = False,
    ) -> Iterator[Event]:
        """The events of a parent in all spools, those of each oldest first; else as Spool.outbox.

        With `keep` none is deleted; `acknowledge` does it.
        """
        from spool.outbox import Outbox, each

        boxes = [Outbox(spool.disk, spool.path, parent) for spool in self.spools]
        return (event for _, event in each(boxes, follow=follow, timeout=timeout, keep=keep))

    def acknowledge(self, event: Event) -> None:
        """As Spool.acknowledge."""
        for spool in self.spools:
            spool.acknowledge(event)

    def place(self, task: Mapping[str, Any], task_id: str | None = None) -> Spool:
        """The spool for a task of these fields, or a schedule; `task_id`: what it will be called."""
        if first := _first_of(task):
            return self.find(first)
        fixed = task.get("key") or task.get("id") or (task.get("task") if "every" in task else None)
        if fixed is None and self.by == "waiting":
            return self._least()
        return self._hashed(str(fixed or task_id))

    def _hashed(self, key: str) -> Spool:
        """Where a spool is added, only what goes to that one is others'."""
        return max(self.spools, key=lambda spool: weight(spool.path, key))

    def _least(self) -> Spool:
        """What was submitted here since the last count is part of it."""
        now = time.monotonic()
        if now - self._counted > FRESH:
            self._counted = now
            self._waiting = {spool.path: _waiting(spool) for spool in self.spools}
        least = min(self.spools, key=lambda spool: self._waiting[spool.path])
        self._waiting[least.path] += 1
        return least


def _waiting(spool: Spool) -> int:
    counts: Mapping[str, int] = spool.status()["counts"]
    return sum(
        count for state, count in counts.items() if state.startswith((layout.PENDING, layout.INCOMING))
    )


def _first_of(task: Mapping[str, Any]) -> str:
    """The first task that one waits for; what is no list is refused where it is submitted."""
    after = task.get("after")
    return str(after[0]) if isinstance(after, list | tuple) and after else ""


def _taken_in(spool: Spool, task_id: str) -> bool:
    from spool import look

    return look.is_known(spool.disk, task_id)


def _dropped(spool: Spool, task_id: str) -> bool:
    from spool import dropped

    return dropped.waiting(spool.disk, task_id) is not None


def _packed(spool: Spool, task_id: str) -> bool:
    from spool import packs

    return packs.past(spool.disk, task_id) is not None


def _refused(spool: Spool, task_id: str) -> bool:
    from spool import dropped

    return dropped.refusal(spool.disk, task_id, time.time_ns() // 1000) is not None


# The cheapest first; what was dropped may be taken in while it is looked for.
_LOOKS = (_taken_in, _dropped, _taken_in, _packed, _refused)
