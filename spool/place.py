"""Where a task stands: one value for all that ask."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from spool import layout
from spool.heldfor import AFTER
from spool.owncopy import first_entry

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.owncopy import Task
    from spool.settings import Handler


UNFINISHED, WINDOW, COMING = "unfinished", "window", "coming"
WORDS = {
    UNFINISHED: "which has not ended",
    WINDOW: "which has ended, and keeps it for its key_for",
    COMING: "which is being taken in",
}


class Rival(Struct, frozen=True):
    """Who has a key, and why it is not free: unfinished, window or coming."""

    id: str
    stand: str


def mark_of(key: str, writer: str | None = None) -> str:
    """The hash of a key: 32 hex digits. In a shared spool each writer has keys of his own."""
    text = key if writer is None else f"{writer}\0{key}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def first_path(task: Task, handler: Handler | None) -> str:
    """Where a task stands when it comes in: it waits for its turn, or for other tasks."""
    entry = first_entry(task, handler)
    if task.after and task.duplicate_of is None:
        return layout.held(replace(entry, why=AFTER))
    return layout.pending(entry)


class Place(Struct, frozen=True):
    """A task where it was found: state, path, entry, own copy.

    `last` is the newest attempt record, None where no attempt has ended. `node` is who runs it.
    `rival`: the id of who has its key, where it was to come back for another try and cannot.
    `lacks`: what of the results that its args name is not there, in words.
    `later`: they are still being looked for.
    """

    state: str
    path: str
    entry: Entry
    task: Task
    last: dict[str, Any] | None = None
    node: str | None = None
    rival: str | None = None
    lacks: str = ""
    later: bool = False
