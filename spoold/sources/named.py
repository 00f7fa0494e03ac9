"""The tasks that an action names: those it brings, waits for or is about, and what is known of them."""

from __future__ import annotations

import hashlib
import stat
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spool import layout, look, packs
from spool.actions import Move, Verb, decode_task
from spool.dependencies import resolved
from spool.disk import Missing, NotRegular, TooLarge, Unreadable
from spool.drop import SHARED
from spool.errors import Damaged, Invalid, PutAside
from spool.names import id_date, id_from
from spool.quarantine import put_aside, quarantine
from spool.times import FOREVER
from spoold.core.values import Arrived, Invalidated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from spool.actions import Submit, Task
    from spool.disk import Disk
    from spool.requests import Word
    from spoold.core.values import Source

    Words: TypeAlias = Verb | Move | Word

KNOWN = 50_000  # tasks that others are to wait for, known to be there
PATIENCE = 60_000_000  # for what the disk cannot read, a second link or a forbidden file, us
OVERTAKEN = 1_000_000  # for an action that was listed before what it is about, us
UNSURE = "is known, and whether it is the same task is not"
_LOW_BITS = (1 << 61) - 1  # one bit less than an id has room for: an index can be added


class NotYet(Exception):
    """The file may still become valid; after `patience` us `then` comes, else the refusal stands."""

    def __init__(
        self, problem: Invalid, patience: int, then: Arrived | Invalidated | None = None
    ) -> None:
        super().__init__(problem, patience, then)
        self.problem = problem
        self.patience = patience
        self.then = then


class Passing(NotYet):
    """It is about a task of the same look, and what becomes of that is known in the next one."""

    def __init__(self, field: str, task_id: str) -> None:
        super().__init__(Invalid(field, task_id, "is about to be taken in"), FOREVER)


class Anew(NotYet):
    """It waits for tasks that were put aside as damaged, and may come anew; else they have ended."""

    def __init__(self, aside: dict[str, str], patience: int) -> None:
        task_id, path = next(iter(aside.items()))
        super().__init__(Invalid("after", task_id, PutAside(task_id, path).rule), patience)
        self.ids = aside.keys()


class Named:
    """What is kept between two looks. `shared`: several users write."""

    def __init__(self, disk: Disk, *, shared: bool) -> None:
        self.disk = disk
        self.shared = shared
        self.passing: dict[str, bool] = {}  # tasks of this look; whether they may yet be refused
        self._packs: frozenset[str] | None = None
        self._there: set[str] = set()  # tasks that others wait for, seen since the last listing
        self._aside: dict[str, str] | None = None  # what was put aside, seen since then

    def listed(self, *, alone: bool) -> None:
        """A new listing: what is known of the rest may be old. `alone`: no other node packs."""
        self._there.clear()
        self._aside = None
        if not alone:
            self.packed()

    def packed(self) -> None:
        """Days may have packs that had none: look again when it matters."""
        self._packs = None

    def check_ids(self, request: Words, source: Source, patience: int) -> Words:
        """A listing may show an action and not yet the submission it is about: look again.

        Where it names several tasks, what nobody knows of keeps it from none of the others.
        """
        field, ids = ("ids", request.ids) if isinstance(request, Verb | Move) else ("id", (request.id,))
        past: dict[str, str] = {}
        unknown: list[str] = []
        for task_id in ids:
            if task_id in self.passing or packs.lives(self.disk, task_id):
                continue
            if self._may_be_packed(task_id) and (rule := packs.past(self.disk, task_id)):
                past[task_id] = rule
            else:
                unknown.append(task_id)
        if past and len(ids) == 1:
            raise Invalid(field, ids[0], past[ids[0]])
        past |= {i: PutAside(i, path).rule for i, path in self._damaged(unknown).items()}
        if past and isinstance(request, Verb | Move):
            request = replace(request, past=tuple(past.items()))
        if unknown:  # what was put aside may come yet, as a new one
            problem = Invalid(field, unknown[0], past.get(unknown[0], "no task has this id"))
            raise NotYet(problem, patience, Arrived(source, request) if len(ids) > 1 else None)
        return request

    def identify(self, request: Submit, source: Source, patience: int) -> Submit:
        """Every task gets its id, and those that are known already are left out."""
        fresh: list[Task] = []
        named = [t if t.id else replace(t, id=own_id(source, i)) for i, t in enumerate(request.tasks)]
        if any(task.after for task in named):
            named = resolved(named)
            self._check_after(named, patience)
        for i, made in enumerate(named):
            if self._known(made, request, i):
                self._left_over(made)
            else:
                self._check_files(made, f"tasks[{i}].files" if request.batch else "files")
                fresh.append(made)
        same = len(fresh) == len(request.tasks) and all(map(is_, fresh, request.tasks))
        return request if same else replace(request, tasks=tuple(fresh))

    def _check_after(self, tasks: list[Task], patience: int) -> None:
        """What a task waits for is there: else it would wait for ever."""
        own = {task.id for task in tasks}
        wanted = set(chain.from_iterable(task.after for task in tasks)) - own - self._there
        gone: list[str] = []
        for task_id in wanted:
            if (unsure := self.passing.get(task_id)) is not None:
                if unsure:
                    raise Passing("after", task_id)
                continue
            if not packs.lives(self.disk, task_id):
                if self._packed(task_id) is None:
                    gone.append(task_id)
                    continue
                if packs.is_gone(self.disk, task_id):
                    raise Invalid("after", task_id, "has ended, and nothing but its id is kept")
            if len(self._there) < KNOWN:
                self._there.add(task_id)
        if gone:
            self._check_gone(gone, patience)

    def _check_gone(self, gone: list[str], patience: int) -> None:
        aside = self._damaged(gone)
        if unknown := set(gone) - aside.keys():
            raise NotYet(Invalid("after", min(unknown), "no task has this id"), patience)
        raise Anew(aside, patience)

    def have_ended(self, ids: Iterable[str]) -> None:
        """Others may wait for these, though nothing of them is there."""
        self._there.update(ids)

    def _damaged(self, ids: list[str]) -> dict[str, str]:
        """What is in corrupt/ of these tasks, as far as it was there when first asked in this listing."""
        if ids and self._aside is None:
            self._aside = put_aside(self.disk)
        aside = self._aside or {}
        return {task_id: aside[task_id] for task_id in ids if task_id in aside}

    def _check_files(self, task: Task, field: str) -> None:
        """What is to come with a task is there, or has been brought to its place before a crash."""
        if task.files and self.shared:
            raise Invalid(field, None, SHARED)
        for name in task.files:
            path = layout.given(task.id or "", name)
            info = self.disk.info(path) or self.disk.info(f"{layout.files(task.id or '')}/{name}")
            if info is None:
                raise NotYet(Invalid(field, name, f"is not there: no {path}"), OVERTAKEN)
            if not stat.S_ISREG(info.mode):
                raise Invalid(field, name, f"must be a regular file: {path}")

    def _left_over(self, task: Task) -> None:
        """Files that came once more with a task that has them."""
        for name in task.files if task.files and packs.lives(self.disk, task.id or "") else ():
            if self.disk.info(path := layout.given(task.id or "", name)) is not None:
                self.disk.remove(path)

    def _known(self, task: Task, request: Submit, index: int) -> bool:
        task_id = task.id or ""
        if task_id in self.passing:
            raise Passing("id", task_id)  # known when it has its place: the disk may be full
        path = layout.own_copy(task_id)
        field = f"tasks[{index}].id" if request.batch else "id"
        info = self.disk.info(path)
        if info is None or info.nlink < 2:
            digest = self._packed(task_id)
            if digest is None:
                return False
        else:
            try:
                digest = decode_task(self.disk.read(path, 64 << 20)).digest
            except (Invalid, NotRegular, TooLarge, Missing) as problem:
                if self._is_torn(task):
                    quarantine(self.disk, path, str(problem))
                    return False
                rule = f"{UNSURE}: {path} {problem}; to run it once more give it another id"
                raise Invalid(field, task_id, rule) from None
            except Unreadable as problem:
                raise NotYet(Invalid(field, task_id, f"{UNSURE}: {path} {problem}"), PATIENCE) from None
        if digest == task.digest:
            return True
        raise Invalid(field, task_id, "is taken by another task with other content")

    def _is_torn(self, task: Task) -> bool:
        """Whether a damaged own copy was made of this very action, and nothing has come of it.

        A power cut without durability tore it, and has brought the action back.
        """
        task_id = task.id or ""
        try:
            waits = look.find(self.disk, task_id) is None
        except Damaged as found:
            state, entry = found.path.partition("/")[0], look.entry_at(found.path)
            waits = state in (layout.PENDING, layout.HELD) and entry.time == task.at
        return waits and look.last_record(self.disk, task_id) is None

    def _packed(self, task_id: str) -> str | None:
        """The digest of a task that was packed."""
        return packs.known(self.disk, task_id) if self._may_be_packed(task_id) else None

    def _may_be_packed(self, task_id: str) -> bool:
        """Whether the day of a task has packs; `packed` tells when others have."""
        if self._packs is None:
            self._packs = frozenset(look.names(self.disk, layout.PACKED))
        return id_date(task_id) in self._packs


def own_id(source: Source, index: int) -> str:
    """The id of a task that came without one: the same after a crash, and in the order of a batch."""
    seed = f"{source.path}.{source.ino}.{source.ctime}".encode("utf-8", "surrogateescape")
    chance = hashlib.sha256(seed).digest()
    count = (int.from_bytes(chance[2:10], "big") & _LOW_BITS) + index
    return id_from(source.ctime, chance[:2] + count.to_bytes(8, "big"))
