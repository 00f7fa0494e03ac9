"""What start-up makes of what a crash left: roll forward what is on record, the rest is lost attempts."""

from __future__ import annotations

import logging
import stat
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import handed, keys, layout, look, records
from spool.disk import Missing
from spool.look import DAMAGED
from spool.names import BadName, is_id, parse_event
from spool.owncopy import decode_task
from spool.place import first_path, mark_of
from spool.times import format_utc
from spoold.core.values import Recovered
from spoold.effects.keys import Keys
from spoold.effects.results import with_results
from spoold.effects.store import ENDING
from spoold.rollforward import roll_forward
from spoold.sources.relink import mark

if TYPE_CHECKING:
    from collections.abc import Container

    from spool.disk import Disk
    from spool.owncopy import Task
    from spool.place import Place
    from spool.settings import Settings
    from spoold.core.values import Event
    from spoold.effects.redo import Redo
    from spoold.effects.store import Store

log = logging.getLogger("spoold")
CANCELLED = "cancelled"  # of what runs: it is to end so
OWN = ("event",)  # what an event of a group says otherwise than the record it tells of


def start_up(  # noqa: PLR0913 - what there is, how it is to be, and what is known
    disk: Disk,
    store: Store,
    redo: Redo | None,
    settings: Settings,
    *,
    alone: bool = True,
    begun: Container[str] | None = None,
) -> list[Event]:
    """Everything before the first round: what a power cut took is done again, the rest put in order.

    What is done here is in no log: it is on disk before the log is used again. A flush may take long
    on a busy disk, so there is none where nothing was left to be done. The log ends with this where
    the store is not durable, or not `alone`: nodes that bring back what another one had must find all
    of it in the tree.
    """
    if redo is None:
        return list(recover(disk, store, settings, begun))
    if redo.found:
        log.warning("replaying %d groups that the power cut may have taken", len(redo.found))
        if look.ids_are_lost(disk):
            mark(disk)
        roll_forward(disk, redo.found)
        redo.settle()
    # A log that is new may come after a daemon that did not sync.
    tidy = (
        redo.at_rest
        and not disk.names(store.stage_dir)
        and not (redo.made and look.names(disk, layout.IDS))
    )
    found: list[Event] = list(recover(disk, store, settings, begun))
    if not tidy:
        redo.settle()
    if store.durable and alone:
        store.redo = redo
    else:
        redo.drop()
    return found


def recover(
    disk: Disk, store: Store, settings: Settings, begun: Container[str] | None = None
) -> list[Recovered]:
    """Bring running/NODE/ in order; what is left there is told to the core.

    `begun`: the attempts (ID.N) that have; where that is not known, all have.

    Before anything is told or dropped, all that the dead daemon had renamed is made durable: it may
    have died between a rename and its sync, and what we do next relies on the rename.
    """
    Keys(disk, store.node).unlock()  # what an earlier life was about to take over is in nobody's way
    try:
        names = sorted(disk.names(store.stage_dir))
    except Missing:
        return []
    found = [
        event
        for name in names
        if not name.startswith(".") and (event := _entry(disk, store, name, begun)) is not None
    ]
    if store.durable:
        disk.sync_dirs(_all_dirs(disk))
    live = {event.place.entry.id: event.place.entry.attempt for event in found}
    # Whether a task was late is seen by its name, which its end may yet change.
    for name in sorted((name for name in names if name.startswith(".")), key=_tells_late):
        _staged(disk, store, settings, name, live)
    return found


def _tells_late(name: str) -> bool:
    return name.endswith(",late.json")


def _all_dirs(disk: Disk) -> list[str]:
    dirs = [*layout.TREE, *look.folders(disk, layout.STATES)]
    for above in (layout.IDS, layout.ATTEMPTS, layout.PENDING, layout.REJECTED):
        try:
            dirs += [f"{above}/{name}" for name in disk.names(above)]
        except Missing:
            continue
    return [path for path in dirs if (i := disk.info(path)) is not None and stat.S_ISDIR(i.mode)]


def _entry(disk: Disk, store: Store, name: str, begun: Container[str] | None) -> Recovered | None:
    path = f"{store.stage_dir}/{name}"
    try:
        entry = look.entry_at(path)
        record = layout.record(entry.id, entry.attempt)
        done = store.recorded(record) and store.recorded(record, _submitted(disk, path))
        if done is not None:
            store.leave(None, path, done["entry"], entry.id)
            return None
        if entry.why not in ("", CANCELLED):  # it was to end without a run: that is decided once more
            waits = entry.why == ENDING
            store.put(path, layout.pending(replace(entry, why="")) if waits else layout.held(entry))
            return None
        info = disk.info(path)
        logged = disk.info(layout.log(entry.id, entry.attempt)) is not None
        place = look.at(disk, path)
        if place.task.results:  # its record tells what it was given
            place = with_results(disk, place, look.BODY_LIMIT)
        since = info.ctime_us if info else 0
        return Recovered(place, since, logged, begun is None or f"{entry.id}.{entry.attempt}" in begun)
    except DAMAGED as problem:
        try:  # who is to start it next finds it damaged, and has its parent told
            store.put(path, layout.pending(replace(look.entry_at(path), timeout=None, why="")))
        except BadName:
            log.warning("quarantined %s: %s", ascii(path), problem)
            store.quarantine(path, str(problem))
    except Missing:
        pass  # gone meanwhile
    return None


def _submitted(disk: Disk, path: str) -> str | None:
    """When a task was; None where its own copy does not tell."""
    try:
        return format_utc(look.read_task(disk, path).submitted_at)
    except DAMAGED:
        return None


def _staged(disk: Disk, store: Store, settings: Settings, name: str, live: dict[str, int]) -> None:
    """A dot file: an event that was not told yet is told if what it tells has happened."""
    path = f"{store.stage_dir}/{name}"
    parent, _, rest = name[1:].partition(",")
    told = parse_event(rest)
    if (info := disk.info(path)) is None or stat.S_ISDIR(info.mode):
        if info is not None:
            store.quarantine(path, "a directory where only files are made")
        return
    try:
        content = records.decode(disk.read(path, records.RECORD_LIMIT)) if told else None
    except (*DAMAGED, Missing):
        content = None
    if (task_id := layout.staged_id(name)) and _placed(disk, store, settings, path, task_id):
        return
    if (
        told is None
        or content is None
        or not _sound(content, told)
        or not _happened(disk, store, content, live)
    ):
        disk.remove(path)
        return
    if store.durable:
        disk.sync([path])  # the dead daemon may not have come so far, and somebody else did what it tells
    store.announce(path, parent, rest)


def _placed(disk: Disk, store: Store, settings: Settings, path: str, task_id: str) -> bool:
    """An own copy whose name is in ids/ already: other nodes know it, so it is taken in.

    Where it has its place, by `fsck --repair` or a hand, its staged name goes: rename(2) would keep both.
    """
    known, ours = disk.info(layout.own_copy(task_id)) if is_id(task_id) else None, disk.info(path)
    if known is None or ours is None or known.ino != ours.ino:
        return False
    try:
        task = decode_task(disk.read(path, look.BODY_LIMIT))
    except DAMAGED:
        return False  # a power cut before its sync: the action is still there
    if not _has_key(disk, store, task):
        return False  # a power cut has taken its key: its action, still there, takes it again
    target = first_path(task, settings.handler_for(task.task))
    if store.durable:
        disk.sync([path])  # the dead daemon may not have come so far, and the action goes next
    if known.nlink > 2 and _find(disk, task_id) is not None:
        disk.remove(path)
        return True
    store.put(path, target)
    if store.durable:
        disk.sync_dirs([layout.parent_of(target), *_above(target)])
    return True


def _has_key(disk: Disk, store: Store, task: Task) -> bool:
    """Whether a task that needs a key has it, and that is on disk."""
    if task.key is None or task.duplicate_of is not None:
        return True
    path = layout.key(mark_of(task.key, task.writer))
    claim = keys.read(disk, path)
    if claim is None or claim.id != task.id:
        return False
    if store.durable:
        disk.sync([path], [layout.KEYS])
    return True


def _above(path: str) -> list[str]:
    """The directories above the one a path stands in."""
    parts = path.split("/")[:-2]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _find(disk: Disk, task_id: str) -> Place | None:
    """Where a task is; one that is damaged is nowhere, and put aside when somebody wants it."""
    try:
        return look.find(disk, task_id)
    except DAMAGED:
        return None


def _sound(content: dict[str, Any], told: tuple[str, str, str, str]) -> bool:
    """Whether an event is what its name says, of that task, and has what is looked at here."""
    _, task_id, _, event = told
    error = content.get("error") or {}
    reason = error.get("reason") or {} if isinstance(error, dict) else None
    attempt = content.get("attempt")
    known = is_id(task_id) and (content["id"], content.get("event")) == (task_id, event)
    return known and isinstance(reason, dict) and (attempt is None or isinstance(attempt, int))


def _has_left(disk: Disk, path: str, content: dict[str, Any]) -> bool:
    """Whether an action that was refused is no longer where it was dropped.

    It is opened, for what this host knows of a name may be old on NFS.
    """
    try:
        disk.read(path, 0)
    except Missing:
        return True
    except OSError:
        pass  # larger, or not ours to read
    info = handed.info(disk, path)
    return info is None or format_utc(info.ctime_us) != content.get("submitted_at")


def _has_reason(disk: Disk, path: str, content: dict[str, Any]) -> bool:
    """Whether a refusal has its reason in rejected/: if not, another node may have taken the action."""
    folder = f"{layout.REJECTED}/{str(content.get('submitted_at'))[:10]}"
    base = layout.dropped_as(path.rpartition("/")[2])
    names = [n for n in look.names(disk, folder) if n.startswith((base, content["id"]))]
    for name in (f"{base}{layout.REASON}", *names):
        if not name.endswith(layout.REASON):
            continue
        try:
            reason = records.decode(disk.read(f"{folder}/{name}", records.RECORD_LIMIT))
        except (*DAMAGED, Missing):
            continue
        if reason.get("id") == content["id"]:
            return True
    return False


def _happened(disk: Disk, store: Store, content: dict[str, Any], live: dict[str, int]) -> bool:
    match content["event"]:
        case "ready":
            return live.get(content["id"]) == content.get("attempt")
        case "late":
            place = _find(disk, content["id"])
            return place is not None and place.entry.lifted > 1
        case "rejected":
            # Refused is what has left incoming/; what has not is looked at again, and told then.
            name = ((content.get("error") or {}).get("reason") or {}).get("file")
            if not isinstance(name, str):
                return False
            return _has_left(disk, name, content) and _has_reason(disk, name, content)
        case "progress":
            return False  # its attempt is lost, or tells again
        case "done" | "failed" | "retrying" | "cancelled" | "recurring-error":
            return _has_ended(disk, store, content)
        case other:
            raise AssertionError(f"when an event {other} has happened is not said")


def _has_ended(disk: Disk, store: Store, content: dict[str, Any]) -> bool:
    """Whether an attempt has ended as an event tells; its task goes to where that says."""
    task_id = content["id"]
    target = content.get("entry")
    if not isinstance(target, str) or target.startswith(f"{layout.CORRUPT}/"):
        return isinstance(target, str) and store.is_aside(target, task_id)
    written = store.recorded(layout.record(task_id, int(content.get("attempt") or 0)))
    if written is None or any(content.get(k) != v for k, v in written.items() if k not in OWN):
        return False  # this attempt has ended in another way, maybe on another node
    if disk.info(target) is None and target.split("/")[0] in layout.ENDED:
        # The record stands, the entry has not moved yet: it was not in running/ (a cancel).
        place = _find(disk, task_id)
        waits = place is not None and place.state in (layout.PENDING, layout.HELD)
        # A later attempt is another life: somebody has asked for it again since.
        if place is not None and waits and place.entry.attempt == content.get("attempt"):
            store.leave(None, place.path, target, task_id)
            if store.durable:
                disk.sync_dirs([layout.parent_of(target), layout.parent_of(place.path)])
    return True
