"""Several spools side by side, used as one: where a single file server or machine has no more to give."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self
from zlib import crc32

from spool import layout
from spool.client import Spool
from spool.errors import Invalid, NoSuchTask
from spool.names import new_id

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spool.views import Event, TaskView

FRESH = 1.0  # seconds for which a count of what waits is good enough
FAST, SLOW, SLOWER = 0.02, 0.5, 1.5  # seconds between looks at outboxes, and how they grow


class Spools:
    """Some spools; each task is in one of them. Safe to share between threads.

    A task with a `key` or an `id` of its own goes where that hashes to, so the same one always to the
    same spool; one with `after` goes where the first of those is; the others go by hash, or to the
    spool where the least waits. Nothing holds across spools but that: order, limits and keys are each
    spool's own.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        by: Literal["hash", "waiting"] = "hash",
        **options: Any,
    ) -> None:
        """Open spools, by the same paths everywhere: they are what is hashed.

        `options` as Spool takes them. Raises as Spool does, Invalid for no path or another `by`.
        """
        if by not in ("hash", "waiting"):
            raise Invalid("by", by, "must be hash or waiting")
        self.spools = [Spool(path, **options) for path in paths]
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
        fixed = {"id": new_id(), **fields}
        return self._chosen(fields, fixed["id"]).submit(task, args, **fixed)

    def submit_many(self, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
        """As Spool.submit_many, in order; all or none holds for each spool's files alone."""
        named = [{"id": new_id(), **task} for task in tasks]
        shares: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for given, task in zip(tasks, named, strict=True):
            shares[self._chosen(given, str(task["id"])).path].append(task)
        for spool in self.spools:
            if share := shares.get(spool.path):
                spool.submit_many(share)
        return [str(task["id"]) for task in named]

    def find(self, task_id: str) -> Spool:
        """The spool a task is in; NoSuchTask."""
        likely = self._hashed(task_id)
        for spool in sorted(self.spools, key=lambda spool: spool is not likely):
            with suppress(NoSuchTask):
                spool.get(task_id)
                return spool
        raise NoSuchTask(task_id)

    def get(self, task_id: str) -> TaskView:
        """As Spool.get."""
        return self.find(task_id).get(task_id)

    def wait(self, task_id: str, timeout: float | None = None) -> dict[str, Any]:
        """As Spool.wait."""
        return self.find(task_id).wait(task_id, timeout)

    def outbox(
        self, parent: str = layout.DEFAULT_PARENT, *, follow: bool = True, timeout: float | None = None
    ) -> Iterator[Event]:
        """The events of a parent in all spools, those of each oldest first; else as Spool.outbox.

        A look at all of them is every 20 ms while events come, and every half a second where none do.
        """
        wait, last = FAST, time.monotonic()
        while True:
            came = False
            for spool in self.spools:
                for event in spool.outbox(parent, follow=False):
                    came = True
                    yield event
            now = time.monotonic()
            wait, last = (FAST, now) if came else (min(SLOW, wait * SLOWER), last)
            if not came and (not follow or (timeout is not None and now - last >= timeout)):
                return
            if not came:
                time.sleep(wait)

    def acknowledge(self, event: Event) -> None:
        """As Spool.acknowledge."""
        for spool in self.spools:
            spool.acknowledge(event)

    def _chosen(self, given: Mapping[str, Any], task_id: str) -> Spool:
        if after := given.get("after"):
            return self.find(after[0])
        fixed = given.get("key") or given.get("id")
        if fixed is None and self.by == "waiting":
            return self._least()
        return self._hashed(str(fixed or task_id))

    def _hashed(self, key: str) -> Spool:
        """Where a spool is added, only what goes to that one is others'."""
        return max(self.spools, key=lambda spool: crc32(f"{spool.path},{key}".encode()))

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
    return sum(count for state, count in counts.items() if state.startswith(("pending", layout.INCOMING)))
