"""Where everything stands in a spool: each directory and file by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.names import Entry, date_of, entry_name, id_date, is_task

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = "format"
FORMAT_LINE = "spool 1\n"
SETTINGS = "spool.toml"
SIGNERS = "allowed_signers"
REVOKED = "revoked_keys"
SIGNED = "signed"
INCOMING = "incoming"
FOR = "to,"  # to,NODE,NAME there: an action that NODE has to carry out
WRITERS = "incoming.d"
TMP = "tmp"
PENDING = "pending"
HELD = "held"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
ATTEMPTS = "attempts"
IDS = "ids"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
FILES = "files"
OUTBOX = "outbox"
REJECTED = "rejected"
CORRUPT = "corrupt"
ERRORS = "errors"
JOURNAL = "journal"
NODES = "nodes"
PACKED = "packed"
KEYS = "keys"
KEY_LOCKS = "keys/locks"
SEED = "nodes/seed"
SECRET = "nodes/secret"  # noqa: S105 - where it is
PAUSES = "nodes/pauses.json"
COLLECTED = "nodes/metrics.prom"  # what a collector of text files takes
SCHEDULES = "nodes/schedules.json"
ALIVE = "nodes/alive"
RELINK = "nodes/relink"  # stands while names in ids/ that were deleted are made again
REDO = "nodes/redo"
REDO_SEEN = "nodes/redo.seen"
REDO_OWNER = "nodes/redo.owner"  # whoever has the log holds the lock of this
REDO_START = "nodes/redo.start"  # and this, who puts in order what was left
LOCK = ".lock"

STATES = (PENDING, HELD, RUNNING, DONE, FAILED, CANCELLED)
ENDED = (DONE, FAILED, CANCELLED)
TREE = (
    INCOMING,
    TMP,
    PENDING,
    HELD,
    RUNNING,
    DONE,
    FAILED,
    CANCELLED,
    ATTEMPTS,
    IDS,
    LOGS,
    OUTBOX,
    REJECTED,
    CORRUPT,
    ERRORS,
    JOURNAL,
    NODES,
)
MADE_WHEN_NEEDED = (CHECKPOINTS, FILES, SIGNED, PACKED, KEYS)  # and not by a spool of 0.1.0
REASON = ".reason.json"  # behind the name of what is refused or put aside: why
DEFAULT_PARENT = "default"


def pending(entry: Entry) -> str:
    """Path of an entry that waits."""
    return f"{PENDING}/{date_of(entry.time)}/{entry.prio}/{entry_name(entry, dated=False)}"


def held(entry: Entry) -> str:
    """Path of an entry that is held."""
    return f"{HELD}/{entry_name(entry, dated=True)}"


def running(node: str, entry: Entry) -> str:
    """Path of an entry that a node has claimed."""
    return f"{RUNNING}/{node}/{entry_name(entry, dated=True)}"


def ended(state: str, at: int, entry: Entry) -> str:
    """Path of an entry in a terminal state, in the directory of the UTC date it ended."""
    return f"{state}/{date_of(at)}/{entry_name(entry, dated=True)}"


def own_copy(task_id: str) -> str:
    """Path by which any task's own copy is found from its id alone."""
    return f"{IDS}/{id_date(task_id)}/{task_id}.json"


def key(mark: str) -> str:
    """Path of the file that says who has a key; `mark` is the key's hash."""
    return f"{KEYS}/{mark}"


def key_lock(mark: str) -> str:
    """Path of the file that keeps all but one from taking a key over."""
    return f"{KEY_LOCKS}/{mark}"


def record(task_id: str, attempt: int) -> str:
    """Path of the record of one attempt."""
    return f"{ATTEMPTS}/{id_date(task_id)}/{task_id}.{attempt}.json"


def log(task_id: str, attempt: int) -> str:
    """Path of what one attempt printed."""
    return f"{LOGS}/{id_date(task_id)}/{task_id}.{attempt}.log"


def checkpoint(task_id: str) -> str:
    """Path of what a Python task has kept for its next attempt."""
    return f"{CHECKPOINTS}/{id_date(task_id)}/{task_id}.json"


def files(task_id: str) -> str:
    """Path of the directory of the files that came with a task, and of those it makes."""
    return f"{FILES}/{id_date(task_id)}/{task_id}"


def staged(folder: str, task_id: str) -> str:
    """Where a task's own copy is made, in the running/NODE/ of who takes it in."""
    return f"{folder}/.{task_id}.task"


def staged_id(name: str) -> str:
    """The id that such a name has, unchecked; empty where it is no such name."""
    return name[1:-5] if name.startswith(".") and name.endswith(".task") else ""


def given(task_id: str, name: str) -> str:
    """Where a writer puts a file that is to come with a task."""
    return f"{TMP}/{task_id},{name}"


def journal(node: str, at: int) -> str:
    """Path of a node's journal of one UTC day."""
    return f"{JOURNAL}/{node}/{date_of(at)}.jsonl"


def lock(node: str) -> str:
    """Path of the file whose lock a node's daemon holds, and by which the node is known."""
    return f"{NODES}/{node}{LOCK}"


def locked(names: Iterable[str]) -> list[str]:
    """The nodes whose locks are among these names of nodes/."""
    nodes = (name.removesuffix(LOCK) for name in names if name.endswith(LOCK))
    return [node for node in nodes if is_task(node)]


def status(node: str) -> str:
    """Path of a node's status file."""
    return f"{NODES}/{node}.json"


def usage(node: str) -> str:
    """Path of what tasks have needed on a node; no .json, which would make it a node's status."""
    return f"{NODES}/{node}.usage"


def shape(node: str) -> str:
    """Path of a node's newest count of all tasks."""
    return f"{NODES}/{node}.shape"


def census(node: str) -> str:
    """Path of what that count has found in each directory, as long as nothing changes there."""
    return f"{NODES}/{node}.census"


def begun(node: str) -> str:
    """Path of which attempts have begun on a node."""
    return f"{NODES}/{node}.begun"


def told(node: str) -> str:
    """Path of how far in a node's journal the files of errors/ tell what it says, and the last alerts."""
    return f"{NODES}/{node}.errors"


def schedules(node: str) -> str:
    """Path of how far each schedule has come on a node."""
    return f"{NODES}/{node}.recurring"


def metrics(node: str) -> str:
    """Path of a node's metrics."""
    return f"{NODES}/{node}.metrics"


def error(fingerprint: str) -> str:
    """Path of the file of a group of errors."""
    return f"{ERRORS}/{fingerprint}.json"


def dropped_as(name: str) -> str:
    """The name that a file in incoming/ was dropped under, whichever node it is for by now."""
    return name.rpartition(",")[2] if name.startswith(FOR) else name


def parent_of(path: str) -> str:
    """The directory a path stands in."""
    return path.rpartition("/")[0]
