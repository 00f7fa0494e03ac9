"""The groups of errors once more, from what is kept of every failure: attempt records and the journal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from spool.failures import MESSAGE, SAID, Group
from spool.fingerprint import FINGERPRINT, place
from spool.times import format_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(FINGERPRINT)


class Failure(NamedTuple):
    """One failed attempt; instants are us UTC. `full`: its record was there, not its line alone."""

    at: int
    id: str
    attempt: int
    error: str
    final: bool
    version: object
    node: str
    full: bool


class Said(NamedTuple):
    """What somebody has said of a group."""

    at: int
    error: str
    state: str
    by: dict[str, Any]
    until: int | None


class Regroup:
    """Is shown every record and every line, in any order and as often as you like."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, int], Failure] = {}
        self._told: dict[str, tuple[int, Group]] = {}  # how each begins
        self._said: list[Said] = []

    def record(self, found: dict[str, Any]) -> None:
        """An attempt record; what is not of that form counts as not there."""
        try:
            error = found["error"]
            if not error or not error.get("fingerprint"):
                return
            final = found["event"] == "failed"
            self._note(found, found["ended_at"], error, final=final, full=True)
        except (KeyError, TypeError, ValueError, AttributeError):
            return

    def line(self, found: Any) -> None:
        """A line of the journal."""
        try:
            if found["event"] in SAID:
                until = None if found.get("until") is None else parse_utc(found["until"])
                for name in found["errors"]:
                    state = SAID[found["event"]]
                    by = dict(found["by"])
                    self._said.append(Said(parse_utc(found["at"]), str(name), state, by, until))
            elif isinstance(found.get("error"), str):
                error = {"fingerprint": found["error"], "type": found["type"], "message": ""}
                final = found["to"] == "failed"
                self._note(found, found["at"], error, final=final, full=False)
        except (KeyError, TypeError, ValueError, AttributeError):
            return

    def _note(
        self, found: dict[str, Any], at: str, error: dict[str, Any], *, final: bool, full: bool
    ) -> None:
        key = str(found["id"]), int(found["attempt"])
        known = self._failures.get(key)
        if known is not None and known.full:
            return
        name, when, node = str(error["fingerprint"]), parse_utc(at), str(found["node"])
        if _NAME.fullmatch(name) is None:
            return  # it would name a file
        self._failures[key] = Failure(when, *key, name, final, found.get("version"), node, full)
        first = self._told.get(name)
        if first is None or (not full, when) < (not first[1].message, first[0]):
            self._told[name] = (
                when,
                Group(
                    fingerprint=name,
                    task=str(found["task"]),
                    type=str(error["type"])[:200],
                    message=str(error["message"])[:MESSAGE],
                    place=place(error) if full else (),
                    first=when,
                    last=when,
                ),
            )

    def groups(self, lives: Callable[[str], bool]) -> dict[str, Group]:
        """All of them by fingerprint, the one that failed last at the end.

        `lives`: whether a task is there; then a line without a record tells of what never came to be.
        """
        made = {name: group for name, (_, group) in self._told.items()}
        rows: list[Failure | Said] = [f for f in self._failures.values() if f.full or not lives(f.id)]
        order: dict[str, Group] = {}
        for row in sorted([*rows, *self._said], key=lambda row: (row.at, isinstance(row, Said))):
            group = made.get(row.error)
            if group is not None and isinstance(row, Failure):
                order.pop(row.error, None)
                order[row.error] = group
                _count(group, row)
            elif group is not None and isinstance(row, Said):
                group.state, group.by, group.until = row.state, row.by, row.until
        return order


def _count(group: Group, one: Failure) -> None:
    if group.state == "resolved" or (group.state == "muted" and not group.muted(one.at)):
        group.state, group.by, group.until = "open", None, None
    example = {"id": one.id, "attempt": one.attempt, "at": format_utc(one.at)}
    group.add(one.at, final=one.final, version=one.version, node=one.node, example=example)
