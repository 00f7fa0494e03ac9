"""Which daemons serve a spool: what each last said of itself, and whether it is alive."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from spool import layout, look
from spool.beats import ORPHAN, Beat, parse
from spool.disk import Missing, NotRegular, TooLarge, open_regular
from spool.errors import Invalid
from spool.mounts import is_network
from spool.names import parse_event
from spool.times import MINUTE, SECOND, format_span, parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spool.disk import Disk

STATUS_LIMIT = 64 << 20
NO_ROOM = 1 << 16  # bytes free with which next to nothing can be written
UNITS = "/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"
APART = 1.0  # seconds between two clocks from which on it is told
SILENT = 150.0  # seconds; a daemon that is well writes its status once a minute
SILENCE = "silent for "


def nodes(disk: Disk, root: str) -> dict[str, dict[str, Any]]:
    """Node name -> its status file as spool(5) describes it, with `alive` (bool) added.

    It is alive by its heartbeat where it has a lease, and on a local disk by its lock as well.
    `beat_at` (us UTC, by the file server's clock) is the last one, `lease` (s) how long one stands for.
    The `state` of one that is alive and has not written its file is what that comes to, as
    `silent for 3 min`.
    """
    beats = _beats(disk)
    shared = is_network(root)
    found: dict[str, dict[str, Any]] = {}
    locked = {*layout.locked(_names(disk))}
    for node in sorted(locked | (beats.keys() if shared else set())):
        row = {**_object(disk, layout.status(node)), "node": node, **beats.get(node, {})}
        if not _is_time(row.get("written_at")):
            row.pop("written_at", None)
        beats_on = _is_fresh(row) if shared or row.get("lease") else True
        row["alive"] = beats_on and (shared or alive(root, node))
        if row["alive"]:
            row["state"] = _unheard(disk, row, None if shared else layout.lock(node)) or row.get("state")
        found[node] = row
    return found


def _unheard(disk: Disk, row: Mapping[str, Any], lock: str | None) -> str:
    """That a daemon that is alive has written no status for too long, or none since it took its lock."""
    if "written_at" not in row:
        return "starting"
    written, now = parse_utc(row["written_at"]), time.time_ns() // 1000
    with suppress(PermissionError):
        info = disk.info(lock) if lock is not None else None
        if info is not None and written < info.ctime_us <= now:  # a clock may have been set back
            return "starting"
    offset = row.get("clock_offset")  # of the file server, which is nearer to ours
    written += int(offset * SECOND) if isinstance(offset, int | float) else 0
    silent = now - written
    return f"{SILENCE}{format_span(silent // SECOND * SECOND)}" if silent > SILENT * SECOND else ""


def is_silent(status: Mapping[str, Any]) -> bool:
    """Whether a daemon, as `nodes` tells of it, is alive and hangs."""
    return str(status.get("state")).startswith(SILENCE)


def up(status: Mapping[str, Any], now: int) -> int | None:
    """For how long a daemon has served, us, by a clock that nobody sets; None: it does not say."""
    found, written = status.get("up"), status.get("written_at")
    if not isinstance(found, int | float) or not written:
        return None
    return int(found * SECOND) + min(max(0, now - parse_utc(written)), MINUTE)


def last_seen(status: Mapping[str, Any]) -> int | None:
    """When a node last said anything, in its status file or by its heartbeat, us UTC; None: never."""
    written = status.get("written_at")
    said = status.get("beat_at"), parse_utc(written) if written else None
    return max((us for us in said if us is not None), default=None)


def known_time(disk: Disk, now: int) -> int | None:
    """The latest instant that a daemon has told of here without a doubt, us UTC.

    `now`: a daemon that doubted its clock for as long as it should was right, by now.
    """
    found: list[int] = []
    for node in layout.locked(_names(disk)):
        status = _object(disk, layout.status(node))
        doubt = status.get("clock_doubted") or {"known": status.get("written_at"), "until": None}
        with suppress(ValueError, TypeError, KeyError):
            over = doubt["until"] is not None and parse_utc(doubt["until"]) <= now
            found.append(now if over else parse_utc(doubt["known"]))
    return max(found, default=None)


def any_alive(disk: Disk, root: str) -> bool:
    """Whether any daemon serves this spool, for all that who asks may see: True where he may not look."""
    try:
        disk.names(layout.NODES)
        return any(row["alive"] for row in nodes(disk, root).values())
    except PermissionError:  # who may drop tasks need not be one who may look
        return True
    except Missing:
        return False


def start_hint(root: str, units: tuple[str, ...] = UNITS, systemd: str = "/run/systemd/system") -> str:
    """The command that serves this spool: by its unit, else as the user whose it is."""
    import pwd
    import shlex

    named, root = root, os.path.realpath(root)
    for place in units if os.path.isdir(systemd) else ():
        with (
            suppress(OSError, UnicodeDecodeError),
            open(f"{place}/spoold.service", encoding="utf-8") as file,
        ):
            if not {named, root}.isdisjoint(file.read().split()):
                return "systemctl start spoold"
    command = f"spoold --spool {shlex.quote(root)}"
    try:
        owner = os.lstat(f"{root}/{layout.PENDING}").st_uid
        name = pwd.getpwuid(owner).pw_name
    except (OSError, KeyError):
        return command
    return command if owner == os.geteuid() else f"runuser -u {name} -- {command}"


def _beats(disk: Disk) -> dict[str, dict[str, Any]]:
    """The newest heartbeat of each node."""
    found: dict[str, dict[str, Any]] = {}
    for name in look.names(disk, layout.ALIVE):
        beat = parse(name)
        info = disk.info(f"{layout.ALIVE}/{name}") if isinstance(beat, Beat) else None
        if isinstance(beat, Beat) and beat.incarnation != ORPHAN and info is not None:
            known = found.get(beat.node)
            if known is None or known["beat_at"] < info.ctime_us:
                found[beat.node] = {"beat_at": info.ctime_us, "lease": beat.lease}
    return found


def _is_time(text: Any) -> bool:
    try:
        return bool(parse_utc(text))
    except (ValueError, TypeError):
        return False


def _is_fresh(row: dict[str, Any]) -> bool:
    """By this host's clock against the file server's: good enough for people, who alone are told."""
    at, lease = row.get("beat_at"), row.get("lease")
    return bool(at and lease and time.time() - at / SECOND < lease)


def alive(root: str, node: str) -> bool:
    """Whether a daemon, or a handler it left behind, holds the lock of a node."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(root, layout.lock(node)), flags)
    except PermissionError:  # a reader of a shared spool: who could lock it could keep a daemon out
        return _told_lately(os.path.join(root, layout.status(node)))
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False  # closing the descriptor gives the lock back
    finally:
        os.close(fd)


def _told_lately(path: str) -> bool:
    """Whether this status file is not the last one of its daemon, which writes one every minute."""
    try:
        with open(open_regular(path), "rb") as file:
            age = time.time() - os.fstat(file.fileno()).st_ctime
            return age < SILENT and orjson.loads(file.read(STATUS_LIMIT)).get("state") != "stopped"
    except (OSError, ValueError, AttributeError):
        return False


def full(disk: Disk) -> str:
    """That there is no room, which a daemon may not be able to write down then; else empty."""
    free = disk.free()
    if free.bytes >= NO_ROOM and free.inodes:
        return ""
    return "full: nothing is taken in, and no end is on record, until there is room"


def pauses(disk: Disk, now: int | None = None) -> list[dict[str, Any]]:
    """What is paused or drained at `now`, or by the clock; instants in us UTC.

    What has ended is left out: nobody may be there to remove it. Nothing where the file is damaged.
    """
    try:
        rows = read_pauses(disk)
    except (OSError, ValueError, TypeError):
        return []
    now = time.time_ns() // 1000 if now is None else now
    return [row for row in rows if row["until"] is None or row["until"] > now]


def read_schedules(disk: Disk) -> dict[str, dict[str, Any]]:
    """The tables of schedules that were set by actions; Invalid where the file is damaged."""
    try:
        rows = orjson.loads(disk.read(layout.SCHEDULES, STATUS_LIMIT))
        return {row["name"]: row["table"] for row in rows}
    except Missing:
        return {}
    except (NotRegular, TooLarge, orjson.JSONDecodeError, KeyError, TypeError) as problem:
        raise Invalid(layout.SCHEDULES, None, f"is damaged: {problem}") from None


def read_pauses(disk: Disk) -> list[dict[str, Any]]:
    """What is paused or drained, as kept on disk; OSError, or ValueError or TypeError: it is damaged."""
    return [_pause(row) for row in orjson.loads(disk.read(layout.PAUSES, STATUS_LIMIT))]


def _pause(row: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError("a row is no object")
    texts = [row[name] for name in ("node", "task", "who", "why") if row.get(name) is not None]
    times = {name: row.get(name) for name in ("since", "until")}
    made = {name: parse_utc(at) if isinstance(at, str) else at for name, at in times.items()}
    wrong = [at for at in made.values() if at is not None and not isinstance(at, int)]
    if row.get("kind") not in ("pause", "drain") or not all(isinstance(t, str) for t in texts) or wrong:
        msg = f"{row!r:.200} is no pause"
        raise ValueError(msg)
    return {**dict.fromkeys(("node", "task", "who", "uid", "why")), **row, **made}


def paused(row: dict[str, Any]) -> str:
    """What a pause as `read_pauses` gives it is about, in a few words."""
    what = "drained" if row["kind"] == "drain" else "paused"
    what += f" ({row['task']})" if row["task"] else ""
    return what + (f" on node {row['node']}" if row["node"] else "")


def asker(row: dict[str, Any]) -> str:
    """` by NAME` of a pause as `read_pauses` gives it; empty where it does not say."""
    who = row["who"] or (None if row["uid"] is None else f"uid {row['uid']}")
    return f" by {who}" if who else ""


def unread(disk: Disk) -> dict[str, int]:
    """Parent -> how many events wait in its outbox."""
    found: dict[str, int] = {}
    try:
        parents = disk.names(layout.OUTBOX)
    except (Missing, PermissionError):
        return found
    for parent in sorted(parents):
        try:
            found[parent] = sum(1 for n in disk.names(f"{layout.OUTBOX}/{parent}") if parse_event(n))
        except OSError:
            continue
    return found


def counted(disk: Disk, nodes: Iterable[str]) -> dict[str, Any] | None:
    """The newest count of all tasks by one of these daemons, as spool.shape makes it."""
    found = (_object(disk, layout.shape(node)) for node in nodes)
    return max((one for one in found if "at" in one), key=lambda one: str(one["at"]), default=None)


def _names(disk: Disk) -> list[str]:
    try:
        return disk.names(layout.NODES)
    except (Missing, PermissionError):
        return []


def _object(disk: Disk, path: str) -> dict[str, Any]:
    """What a daemon has written there; nothing where it has not, or it cannot be read."""
    try:
        found = orjson.loads(disk.read(path, STATUS_LIMIT))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def clock_apart(status: Mapping[str, Any]) -> str:
    """That the clock of a node is more than a second from the file server's, in words; else empty."""
    offset = status.get("clock_offset")
    if not isinstance(offset, int | float) or abs(offset) <= APART:
        return ""
    way = "behind" if offset > 0 else "ahead of"
    return f"the clock is {format_span(abs(round(offset)) * SECOND)} {way} that of the file server"


def unread_by(status: dict[str, Any]) -> dict[str, str]:
    """The parents whose tasks wait until they have read, and why; the default one is nobody."""
    words = {"full_outboxes": "is full", "filling_outboxes": "will be full by what runs"}
    rows = ((parent, said) for key, said in words.items() for parent in status.get(key) or ())
    return {parent: f"outbox {parent} {said}" for parent, said in rows if parent != layout.DEFAULT_PARENT}


def takes(disk: Disk) -> dict[str, dict[str, dict[str, frozenset[int | str]]]]:
    """What the Python code of the nodes takes, dead ones too: node -> handler -> task -> versions."""
    found: dict[str, dict[str, dict[str, frozenset[int | str]]]] = {}
    for node in layout.locked(_names(disk)):
        rows = _object(disk, layout.status(node)).get("python") or ()
        found[node] = {
            pattern: {task: frozenset(versions) for task, versions in (row.get("takes") or {}).items()}
            for row in rows
            for pattern in row["handlers"]
        }
    return found


def broken(status: dict[str, Any], handler: str | None = None) -> list[str]:
    """What a daemon could not import of its Python modules, in words. `handler`: that cannot run so."""
    found: list[str] = []
    for row in status.get("python") or ():
        problem, known = row.get("problem"), row.get("tasks") is not None
        if not problem or (handler and (known or handler not in row["handlers"])):
            continue
        said = f"{problem['type']}: {problem['message']}".partition("\n")[0]
        text = f"module {row['module']} cannot be imported: {said}"
        found.append(f"{text}; the code before it goes on" if known else text)
    return found
