"""Where a task stands: one value for all that ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spool.names import Entry
    from spool.owncopy import Task


@dataclass(frozen=True, slots=True)
class Place:
    """A task where it was found: state, path, entry, own copy.

    `last` is the newest attempt record, None where no attempt has ended. `node` is who runs it.
    """

    state: str
    path: str
    entry: Entry
    task: Task
    last: dict[str, Any] | None = None
    node: str | None = None
