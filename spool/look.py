"""Read-only questions to a spool: where is this task, what stands in that state."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import layout
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import Damaged, Invalid
from spool.names import PRIORITIES, BadName, id_and_task, is_id, parse_entry
from spool.owncopy import decode_task, first_entry
from spool.place import Place
from spool.records import RECORD_LIMIT, decode, decode_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from spool.disk import Disk
    from spool.names import Entry
    from spool.owncopy import Task

    Reader: TypeAlias = Callable[[Disk, str, int], dict[str, Any]]

BODY_LIMIT = RECORD_LIMIT
DAMAGED = (Invalid, BadName, NotRegular, TooLarge)  # what is raised where an entry or a body is no good
SLICE = 4096
GAP = 4  # numbers of attempts without a record, behind which there is none
MANY = 50_000  # names that can be counted in the time somebody waits
LIVE = (layout.HELD, layout.RUNNING)
PLACED = tuple(state for state in layout.STATES if state != layout.PENDING)


def read_task(disk: Disk, path: str) -> Task:
    """The own copy at a path; Missing, or Invalid where it is damaged."""
    task = decode_task(disk.read(path, BODY_LIMIT))
    if f",{task.id}," not in path and not path.endswith(f"/{task.id}.json"):
        raise Invalid("own copy", task.id, "stands under the name of another task")
    return task


def entry_at(path: str) -> Entry:
    """The entry a path stands for; BadName where it is none."""
    parts = path.split("/")
    if parts[0] == layout.PENDING and len(parts) == 4:
        return parse_entry(parts[3], date=parts[1], prio=parts[2])
    return parse_entry(parts[-1])


def at(disk: Disk, path: str) -> Place:
    """The task whose entry is at a path; Missing, BadName or Damaged."""
    entry = entry_at(path)
    try:
        task = read_task(disk, path)
    except (Invalid, NotRegular, TooLarge) as problem:
        raise Damaged(path, str(problem)) from None
    parts = path.split("/")
    node = parts[1] if parts[0] == layout.RUNNING else None
    return Place(parts[0], path, entry, task, last_record(disk, entry.id), node)


def record(disk: Disk, task_id: str, attempt: int) -> dict[str, Any]:
    """The record of one attempt; Missing, or Invalid where it is damaged."""
    return decode(disk.read(layout.record(task_id, attempt), RECORD_LIMIT))


def numbered(disk: Disk, task_id: str) -> dict[int, dict[str, Any]]:
    """The attempt records of a task by their numbers, oldest first; damaged ones are left out."""
    found: dict[int, dict[str, Any]] = {}
    misses = 0
    number = 0
    while misses < GAP:
        number += 1
        try:
            found[number] = record(disk, task_id, number)
            misses = 0
        except (Missing, *DAMAGED):
            misses += 1
    return found


def records(disk: Disk, task_id: str) -> list[dict[str, Any]]:
    """The same without the numbers."""
    return list(numbered(disk, task_id).values())


def ending(disk: Disk, task_id: str, attempt: int) -> dict[str, Any]:
    """What the record of one attempt says of an end, its result not parsed; Missing, or Invalid."""
    return decode_ending(disk.read(layout.record(task_id, attempt), RECORD_LIMIT))


def last_record(disk: Disk, task_id: str, read: Reader = record) -> dict[str, Any] | None:
    """The newest whole attempt record, None where no attempt has ended."""
    number = misses = 0
    found: list[int] = []
    while misses < GAP:
        number += 1
        misses += 1
        if disk.info(layout.record(task_id, number)) is not None:
            found.append(number)
            misses = 0
    for one in reversed(found):
        with suppress(Missing, *DAMAGED):
            return read(disk, task_id, one)
    return None


def tried(disk: Disk, place: Place) -> Place:
    """The same, where it has been tried, with the newest attempt that began: an end may be none."""
    if place.last is None or place.last.get("started_at") is not None:
        return place
    began = (one for one in reversed(records(disk, place.entry.id)) if one.get("started_at") is not None)
    return replace(place, last=next(began, place.last))


def find(disk: Disk, task_id: str, hint: str | None = None) -> Place | None:
    """Where a task is, None where it is nowhere; Damaged names the path of what cannot be read.

    Costs some opens where the hint, the newest record or the own copy tells it, else (after a `move`
    to another time, a `release`, a `retry`, or where ids/ was deleted) a look at the names of running/,
    held/ and pending/. A task that moves meanwhile is looked for twice.
    """
    if not is_id(task_id):
        return None
    for _ in range(2):
        for path in _guesses(disk, task_id, hint):
            try:
                return at(disk, path)
            except (Missing, BadName):
                continue
    return None


def _guesses(disk: Disk, task_id: str, hint: str | None) -> Iterator[str]:
    if hint is not None:
        yield hint
    if not may_be_known(disk, task_id):
        return
    last = last_record(disk, task_id)
    if last is not None and isinstance(last.get("entry"), str):
        yield last["entry"]
    yield from _first_places(disk, task_id)
    for folder in folders(disk, (layout.RUNNING, layout.HELD, layout.PENDING)):
        yield from _in_folder(disk, folder, task_id)
    for folder in folders(disk, layout.ENDED):
        yield from _in_folder(disk, folder, task_id)


def ids_are_lost(disk: Disk) -> bool:
    """Whether ids/ was deleted and is not whole again: then a task is found by the name of its entry."""
    if disk.info(layout.RELINK) is not None:
        return True
    if names(disk, layout.IDS):
        return False
    found = (disk.info(path) for path, _ in entries(disk, layout.STATES))
    return any(info is not None and stat.S_ISREG(info.mode) for info in found)


def is_known(disk: Disk, task_id: str) -> bool:
    """Whether a task has its name in ids/, or stands somewhere where that was deleted."""
    if disk.info(layout.own_copy(task_id)) is not None:
        return True
    return ids_are_lost(disk) and any(
        id_and_task(name)[0] == task_id for _, batch in batches(disk, layout.STATES) for name in batch
    )


def may_be_known(disk: Disk, task_id: str) -> bool:
    """The same for who asks again and again: true as well where only a look at all names would tell."""
    return disk.info(layout.own_copy(task_id)) is not None or ids_are_lost(disk)


def _first_places(disk: Disk, task_id: str) -> Iterator[str]:
    """Where a task waits that is as it came, or in another class, or lifted: by its own copy."""
    try:
        task = read_task(disk, layout.own_copy(task_id))
    except (OSError, Invalid):
        return  # the look at the names tells what it is
    base = first_entry(task)
    fronts = [replace(base, front=front) for front in (base.front, not base.front)]
    entries = [replace(e, prio=prio, base=prio) for e in fronts for prio in PRIORITIES]
    lifted = (
        [replace(e, prio=PRIORITIES[0], lifted=1) for e in entries] if base.deadline is not None else []
    )
    yield from (layout.pending(e) for e in (*entries, *lifted))


def _in_folder(disk: Disk, folder: str, task_id: str) -> Iterator[str]:
    wanted = f",{task_id},"
    for batch in disk.slices(folder, SLICE):
        for name in batch:
            if wanted in name and not name.startswith("."):
                yield f"{folder}/{name}"


def folders(disk: Disk, states: tuple[str, ...]) -> Iterator[str]:
    """The directories that hold entries of these states, earliest date first."""
    for state in states:
        if state == layout.HELD:
            yield state
            continue
        for name in names(disk, state):
            if state == layout.PENDING:
                yield from (f"{state}/{name}/{prio}" for prio in PRIORITIES)
            else:
                yield f"{state}/{name}"


def names(disk: Disk, path: str) -> list[str]:
    """The names in a directory in order, none where it is missing or no directory."""
    try:
        return sorted(disk.names(path))
    except Missing:
        return []
    except NotADirectoryError:
        return []  # a stranger's file; fsck names it


def dropped(disk: Disk) -> list[str]:
    """The names of dropped files that wait to be taken in, where the caller may see them."""
    try:
        found = names(disk, layout.INCOMING)
    except PermissionError:
        return []
    return [name for name in found if name.endswith(".json") and name[0] != "."]


def incoming(disk: Disk) -> int:
    """How many they are."""
    return len(dropped(disk))


def has_claims(disk: Disk, node: str) -> bool:
    """Whether a node has tasks in running/, as far as that can be seen."""
    try:
        return bool(disk.names(f"{layout.RUNNING}/{node}"))
    except OSError:
        return False


def sizes(disk: Disk, path: str) -> dict[str, int]:
    """The files below a directory by their path in it, and how many bytes each has."""
    found: dict[str, int] = {}
    for name in names(disk, path):
        info = disk.info(f"{path}/{name}")
        if info is not None and stat.S_ISDIR(info.mode):
            found |= {f"{name}/{one}": size for one, size in sizes(disk, f"{path}/{name}").items()}
        elif info is not None:
            found[name] = info.size
    return found


def remove_tree(disk: Disk, path: str) -> None:
    """A directory with all that is in it, as far as it is there."""
    for name in names(disk, path):
        info = disk.info(f"{path}/{name}")
        if info is not None and stat.S_ISDIR(info.mode):
            remove_tree(disk, f"{path}/{name}")
        elif info is not None:
            disk.remove(f"{path}/{name}")
    disk.remove_dir(path)


def batches(disk: Disk, states: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """(directory, names in it) of all that stands in these states, a slice at a time."""
    for folder in folders(disk, states):
        for batch in disk.slices(folder, SLICE):
            yield folder, batch


def entries(disk: Disk, states: tuple[str, ...]) -> Iterator[tuple[str, Entry]]:
    """(path, entry) of all that stands in these states; names that are no entries are left out."""
    for folder, batch in batches(disk, states):
        for name in batch:
            path = f"{folder}/{name}"
            try:
                yield path, entry_at(path)
            except BadName:
                continue


def count(
    disk: Disk, states: tuple[str, ...] = layout.STATES, *, limit: int = MANY
) -> tuple[dict[str, int], bool]:
    """How many entries stand in each state, pending by class as pending/PRIO; by names alone.

    Beyond `limit` it stops: False, and there are at least so many.
    """
    found = {s: 0 for s in states if s != layout.PENDING}
    if layout.PENDING in states:
        found.update({f"pending/{prio}": 0 for prio in PRIORITIES})
    total = 0
    for folder, batch in batches(disk, states):
        parts = folder.split("/")
        key = f"pending/{parts[2]}" if parts[0] == layout.PENDING else parts[0]
        many = sum(1 for n in batch if not n.startswith("."))
        found[key] += many
        total += many
        if total > limit:
            return found, False
    return found, True
