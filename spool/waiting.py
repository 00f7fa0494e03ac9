"""Waiting for the end of a task, or until an action is carried out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeGuard

from spool import closed, dropped, handed, layout, look, mounts, packs, quarantine
from spool.disk import Missing
from spool.errors import NoSuchTask, NotAllowed, PutAside, Refused, TimedOut, Unrecorded
from spool.names import id_time, is_id
from spool.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spool.disk import Disk
    from spool.look import Reader

SETTLING = 0.005  # seconds between looks while an entry follows its record


def ended(disk: Disk, root: str, task_id: str, timeout: float | None) -> dict[str, Any]:
    """The last record of a task once it has ended; NoSuchTask and its kinds, Refused, TimedOut."""
    if not is_id(task_id):
        raise NoSuchTask(task_id)
    if (found := end_of(disk, task_id)) is not None:
        return found
    end = _end(timeout)
    _taken_in(disk, root, task_id, end)
    if (found := _unrecorded(disk, root, task_id)) is not None:
        return found
    records = layout.parent_of(layout.record(task_id, 1))
    with Watch([f"{root}/{records}", f"{root}/{layout.CORRUPT}"]) as watch:
        while True:
            aside = put_aside(disk, task_id)  # before its record is looked for
            last = look.last_record(disk, task_id)
            if tells_end(last) and disk.info(last["entry"]) is not None:
                return last
            if last is None and not look.may_be_known(disk, task_id):  # it was packed, or went
                if (packed := packs.find(disk, task_id)) is not None:
                    return _packed(packed, task_id)
                raise packs.missing(disk, task_id)
            if aside is not None:
                raise PutAside(task_id, aside)
            left = _left(end, f"{task_id} has not ended yet")
            if tells_end(last):  # its entry follows within milliseconds, and rings nowhere
                left = SETTLING if left is None else min(left, SETTLING)
            watch.wait(left)


def _unrecorded(disk: Disk, root: str, task_id: str) -> dict[str, Any] | None:
    """The end of a task that stands as ended and whose record is gone: it is being packed.

    Unrecorded where nothing says how it has ended: no event would come.
    """
    try:  # a file server's client may know of the entry first
        place = None if mounts.is_network(root) else look.find(disk, task_id)
    except (OSError, *look.DAMAGED):
        return None
    if place is None or place.state not in layout.ENDED or tells_end(look.last_record(disk, task_id)):
        return None
    if (packed := packs.find(disk, task_id)) is None:
        raise Unrecorded(task_id, place.path)
    return _packed(packed, task_id)


def _packed(packed: packs.Packed, task_id: str) -> dict[str, Any]:
    if (last := packed_end(packed)) is None:
        raise Unrecorded(task_id, None)
    return last


def packed_end(packed: packs.Packed | None) -> dict[str, Any] | None:
    """The record of the end of a packed task; None where it was damaged, or gone, as it was packed."""
    if packed is None or not packed.attempts:
        return None
    last = packed.attempts[-1]
    return last if tells_end(last) and last.get("event") == packed.state else None


def put_aside(
    disk: Disk, task_id: str, kept: Callable[[], Mapping[str, str]] | None = None
) -> str | None:
    """Where what is left of a damaged task is, if there is no more of it that could end.

    `kept`: what `quarantine.put_aside` says, for who asks of many.
    """
    aside = quarantine.of(disk, task_id) if kept is None else kept().get(task_id)
    try:
        place = look.find(disk, task_id) if aside else None
    except (OSError, *look.DAMAGED):
        return None
    return aside if place is None or place.state in layout.ENDED else None


def last_word(disk: Disk, task_id: str, read: Reader = look.record) -> dict[str, Any] | None:
    """The record of a task's end, once its entry stands where the record says; else None."""
    last = look.last_record(disk, task_id, read)
    return last if tells_end(last) and disk.info(last["entry"]) is not None else None


def end_of(disk: Disk, task_id: str, read: Reader = look.record) -> dict[str, Any] | None:
    """The record of a task's end, from a pack as well; None where it has not ended, or is not known."""
    last = _standing(disk, task_id, read)
    return packed_end(packs.find(disk, task_id)) if last is None else last


def _standing(disk: Disk, task_id: str, read: Reader) -> dict[str, Any] | None:
    """The same of one that is in no pack."""
    try:
        return last_word(disk, task_id, read)
    except (Missing, *look.DAMAGED):
        return None


def how_ended(disk: Disk, task_id: str, kept: Callable[[], Mapping[str, str]] | None = None) -> str:
    """How a task has ended: done, failed, cancelled or damaged; empty where that is not known."""
    if (last := _standing(disk, task_id, look.ending)) is not None:
        return str(last["event"])
    if (packed := packs.find(disk, task_id)) is not None:
        return packed.state  # also where its record was damaged, or gone, when it was packed
    if packs.lives(disk, task_id):
        return ""
    return "damaged" if put_aside(disk, task_id, kept) is not None else ""


def carried_out(disk: Disk, root: str, stem: str, timeout: float | None) -> None:
    """Return when the action incoming/STEM.json is carried out; Refused, TimedOut.

    NotAllowed: it is, or was refused; who asks may not look.
    """
    places = dropped.folders(disk)
    end = _end(timeout)
    if _lies(disk, places, f"{stem}.json"):
        with Watch([f"{root}/{folder}" for folder in places]) as watch:
            while _lies(disk, places, f"{stem}.json"):
                watch.wait(_left(end, f"action {stem} is not carried out yet"))
    now = time.time_ns() // 1000
    try:
        refusal = dropped.action_refusal(disk, stem, id_time(stem) if is_id(stem) else now, now)
    except PermissionError:
        told = closed.unread(root, layout.REJECTED, f"{root}/{layout.REJECTED}")
        raise NotAllowed(f"{told}: a refusal is not seen") from None
    if refusal is not None:
        raise refusal


def _lies(disk: Disk, places: list[str], name: str) -> bool:
    """Whether an action waits, under its own name or handed on to another node."""
    if any(handed.info(disk, f"{folder}/{name}") is not None for folder in places):
        return True
    try:
        return any(layout.dropped_as(other) == name for other in disk.names(layout.INCOMING))
    except PermissionError:  # a box of letters: who may only drop them does not see what is handed on
        return False


def _taken_in(disk: Disk, root: str, task_id: str, end: float | None) -> None:
    """Return when spoold has a task's own copy; NoSuchTask, Refused, TimedOut.

    Where a file goes from incoming/ it is looked for after incoming/, so that none slips through.
    """
    if look.is_known(disk, task_id):
        return
    own = layout.own_copy(task_id)
    with Watch([f"{root}/{folder}" for folder in dropped.folders(disk)]) as watch:
        while True:
            waits = dropped.waiting(disk, task_id)
            if disk.info(own) is not None:
                return
            if waits is None:
                why = dropped.refusal(disk, task_id, time.time_ns() // 1000)
                if why is None and packs.find(disk, task_id) is not None:
                    return
                raise packs.missing(disk, task_id) if why is None else Refused(task_id, why)
            while disk.info(waits.path) is not None and disk.info(own) is None:
                watch.wait(_left(end, f"{task_id} is not taken in yet"))


def tells_end(record: Mapping[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a record tells the end of its task."""
    if record is None or record.get("will_retry"):
        return False
    entry = record.get("entry")
    return isinstance(entry, str) and entry.split("/")[0] in layout.ENDED


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(end: float | None, what: str) -> float | None:
    """Seconds until `end`; TimedOut with `what` when it is over."""
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise TimedOut(what)
    return left
