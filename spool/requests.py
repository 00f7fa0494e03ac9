"""The actions as typed values: what a file in incoming/ can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from spool.owncopy import Task


class Submit(Struct, frozen=True):
    """New tasks, all or none; `batch` where they came as a list."""

    tasks: tuple[Task, ...]
    batch: bool


class Match(Struct, frozen=True):
    """Tasks by what they are; None is no condition. Instants are us UTC.

    `task`: a name or pattern. `state`: one of the six. `since`, `until`: the time in the entry's
    name. `error`: the fingerprint of the newest failed attempt. `after`: the id of a task they wait for,
    or have waited for. `key`: their key.
    """

    task: str | None = None
    state: str | None = None
    since: int | None = None
    until: int | None = None
    error: str | None = None
    after: str | None = None
    key: str | None = None

    @property
    def opens(self) -> bool:
        """Whether names do not tell who is meant."""
        return (self.error, self.after, self.key) != (None, None, None)


class Verb(Struct, frozen=True):
    """cancel, retry, hold or release these tasks: either `ids` or those that `match`.

    `past`: those of the ids that are packed, each with the rule that says so; who reads the file knows.
    """

    kind: str
    ids: tuple[str, ...]
    match: Match | None
    why: str | None
    past: tuple[tuple[str, str], ...] = ()


class Move(Struct, frozen=True):
    """Give these tasks another place or time; None leaves it as it is, one is always given.

    `past` as in Verb.
    """

    ids: tuple[str, ...]
    match: Match | None
    priority: str | None
    front: bool | None
    at: int | None
    deadline: int | None
    why: str | None
    past: tuple[tuple[str, str], ...] = ()


class Replay(Struct, frozen=True):
    """Submit what has ended once more: either `ids` or those that `match`.

    The ids of the new tasks are made of `id`, where it is given, else of the file.
    """

    ids: tuple[str, ...]
    match: Match | None
    id: str | None
    force: bool
    why: str | None


class Ack(Struct, frozen=True):
    """An attempt is done."""

    id: str
    attempt: int
    result: Any


class Fail(Struct, frozen=True):
    """An attempt failed; `error` has type, message and trace, `delay` (us) replaces the backoff."""

    id: str
    attempt: int
    error: dict[str, str]
    retry: bool
    delay: int | None


class Extend(Struct, frozen=True):
    """An attempt needs longer, by this many microseconds."""

    id: str
    attempt: int
    by: int


class Progress(Struct, frozen=True):
    """How far an attempt is."""

    id: str
    attempt: int
    percent: float | None
    note: str | None


class Control(Struct, frozen=True):
    """pause, resume or drain the spool, a node or a pattern of task names."""

    kind: str
    node: str | None
    task: str | None
    who: str | None
    why: str | None
    until: int | None


class Care(Struct, frozen=True):
    """resolve, mute or reopen groups of errors, by their fingerprints; `until` ends a mute."""

    kind: str
    errors: tuple[str, ...]
    until: int | None
    why: str | None


class Prune(Struct, frozen=True):
    """Look after old history now."""

    why: str | None


class Schedule(Struct, frozen=True):
    """Tasks recur from now on as a table of [recurring] says, or (None) no longer."""

    name: str
    table: dict[str, Any] | None
    why: str | None


Word: TypeAlias = Ack | Fail | Extend | Progress  # about an attempt
Action: TypeAlias = Submit | Verb | Move | Replay | Word | Control | Care | Prune | Schedule


def kind_of(request: Action) -> str:
    """What an action is called in its file."""
    return str(getattr(request, "kind", type(request).__name__.lower()))
