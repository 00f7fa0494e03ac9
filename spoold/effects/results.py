"""Results of other tasks, put into the args of one that is about to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Raw
from msgspec.structs import replace

from spool import layout, look, packs, waiting
from spool.errors import Damaged
from spool.results import NONE, RESULT, at, swapped

if TYPE_CHECKING:
    from spool.disk import Disk
    from spool.place import Place
    from spoold.core.values import Now


A_ROUND = 1 << 20  # bytes of records looked at in one round of the loop, or one pack
LOOK = 1 << 13  # what one more costs beside its bytes
MANY = 64  # tasks gathered for at once
FORGOTTEN = 60_000_000  # us after which a task is not waited for that was to start
OUSTED = 1_000_000  # us between two that are not, before that, as others want their places
LOST = "args: a result in them is lost, for no whole record of its task is left"


class _Lacks(Exception):
    """A result that is not there; the text says which."""


class Results:
    """Puts results into args, so much of it in one round of the loop that others have their turn."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._left = 0
        self._now = 0
        self._oust_at = 0
        self.begun: dict[str, _Gathering] = {}  # by path

    def turn(self, now: Now) -> None:
        """A round begins; what was to start a while ago and is not any more is forgotten."""
        self._left, self._now = A_ROUND, now.mono
        for path in [path for path, one in self.begun.items() if one.asked < now.mono - FORGOTTEN]:
            del self.begun[path]

    def known(self, path: str) -> Place | None:
        """A task that is at it: it need not be read once more."""
        one = self.begun.get(path)
        return None if one is None else one.place

    def put_in(self, place: Place, limit: int) -> Place:
        """As `with_results`; or `later`, where this round has done enough."""
        one = self.begun.get(place.path)
        if one is None:
            if len(self.begun) >= MANY and not self._oust():
                return replace(place, later=True)
            one = self.begun[place.path] = _Gathering(self.disk, place, limit)
        one.asked = self._now
        while self._left > 0:
            before = one.cost
            found = one.step()
            self._left -= one.cost - before
            if found is not None:
                del self.begun[place.path]
                return found
        return replace(place, later=True)

    def _oust(self) -> bool:
        """Forget what was to start longest ago, unless that was in this round; of those the newest.

        Seldom: where more than these take turns, each has got on by the time that it is its turn again.
        """
        if self._now < self._oust_at:
            return False
        self._oust_at = self._now + OUSTED
        path = min(reversed(self.begun), key=lambda path: self.begun[path].asked)
        if self.begun[path].asked == self._now:
            return False
        del self.begun[path]
        return True


def with_results(disk: Disk, place: Place, limit: int) -> Place:
    """A task with args of at most `limit` bytes that hold what they name; `lacks` where they cannot.

    A task that has ended otherwise than done, or (where somebody has released this one) has not
    ended, has no result: null, whatever the path.
    """
    one = _Gathering(disk, place, limit)
    while (found := one.step()) is None:
        pass
    return found


class _Gathering:
    """One task, and the values that were found so far for what its args name, in the order they stand."""

    def __init__(self, disk: Disk, place: Place, limit: int) -> None:
        self.disk = disk
        self.place = place
        self.limit = limit
        self.asked = 0  # when it was to start the last time, monotonic us
        self.cost = 0  # of all that was looked at
        self._left = limit
        self._values: list[Any] = []
        self._todo: dict[str, list[tuple[int, str, Any]]] = {}  # by id: which, where it stands, its path
        swapped(place.task.args, self._note, "args")

    def _note(self, reference: dict[str, Any], where: str) -> None:
        wanted = self._todo.setdefault(reference[RESULT], [])
        wanted.append((len(self._values), where, reference.get("path")))
        self._values.append(None)

    def step(self) -> Place | None:
        """Look at one task of those that are named; how the place is where that was the last."""
        one = next(iter(self._todo))
        try:
            result = self._result(one)
            for number, where, path in self._todo.pop(one):
                self._values[number] = self._value(result, one, where, path)
            if self._todo:
                return None
            values = iter(self._values)
            args = swapped(self.place.task.args, lambda *_: next(values), "args")
            orjson.dumps([[[[args]]]])  # as deep as it will stand in what is told and handed over
        except _Lacks as problem:
            return replace(self.place, lacks=str(problem))
        except TypeError as problem:
            text = f"args: the results in them cannot be written: {problem}"
            return replace(self.place, lacks=text)
        return replace(self.place, task=replace(self.place.task, args=args))

    def _value(self, result: Any, one: str, where: str, path: Any) -> Any:
        try:
            found = at(result, path)
        except LookupError as step:
            shown = path if isinstance(path, str) else orjson.dumps(path).decode()
            text = f"{where}: the result of {one} has no {shown} (nothing at {step.args[0]})"
            raise _Lacks(text) from None
        self._left -= len(orjson.dumps(found))
        if self._left < 0:
            text = f"args: the results in them are more than {self.limit} bytes (max_action_bytes)"
            raise _Lacks(text)
        return found

    def _result(self, task_id: str) -> Any:
        """What a task came to; NONE where it is not done."""
        disk, task, before = self.disk, self.place.task, self.cost
        end = waiting.end_of(disk, task_id, self._read)
        if end is None and disk.stamp(layout.parent_of(layout.record(task_id, 1))) is not None:
            # Who knows of the entry may not see its record yet, on NFS.
            end = waiting.end_of(disk, task_id, self._read)
        self.cost += LOOK if self.cost > before else A_ROUND  # else it was looked for in packs
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
        found = end.get("result")
        try:
            return orjson.loads(bytes(found)) if isinstance(found, Raw) else found
        except ValueError:
            raise _Lacks(f"{LOST}: {task_id}") from None

    def _read(self, disk: Disk, task_id: str, attempt: int) -> dict[str, Any]:
        info = disk.info(layout.record(task_id, attempt))
        self.cost += 0 if info is None else info.size
        return look.ending(disk, task_id, attempt)


def _state(disk: Disk, task_id: str) -> str | None:
    """The state of a task without a whole record; None where it is not known."""
    try:
        place = look.find(disk, task_id) or packs.find(disk, task_id)
    except Damaged as problem:
        return problem.path.partition("/")[0]
    return None if place is None else place.state
