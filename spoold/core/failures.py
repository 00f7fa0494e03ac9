"""Failures in groups: what is counted of each, and when a parent is told.

The table is in memory and bounded; its files are written later and by somebody else. Nothing waits
for it: a count that a crash takes along is made again from the journal.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spool.failures import KEPT, MESSAGE, Group
from spool.fingerprint import place
from spool.times import DAY, HOUR, format_utc, parse_utc
from spoold.core.values import Message, Tell

if TYPE_CHECKING:
    from spoold.core.state import State
    from spoold.core.values import Action, Move, Now


class News(Struct):
    """What the file of a group does not tell yet: failures here, and when its state changed (us)."""

    fresh: Group
    changed: int | None = None
    over: dict[str, Any] | None = None  # the word that counted before


class Groups:
    """The groups by fingerprint, the one that failed last at the end; `dirty` ones want writing."""

    def __init__(self) -> None:
        self.table: OrderedDict[str, Group] = OrderedDict()
        self.dirty: dict[str, News] = {}
        self.said = False  # to be written at once: somebody says something of one, and will look
        self.gone: list[str] = []  # fingerprints whose files may go
        self._lately: dict[str, deque[int]] = {}
        self._frequent_at: dict[str, int] = {}  # by this clock; a file may tell another node's

    def put(self, group: Group) -> None:
        """A group from elsewhere (its file, or just made), as the newest."""
        self.table[group.fingerprint] = group
        while len(self.table) > KEPT:
            oldest, _ = self.table.popitem(last=False)
            self._lately.pop(oldest, None)
            self._frequent_at.pop(oldest, None)
            self.dirty.pop(oldest, None)
            self.gone.append(oldest)

    def news(self, fingerprint: str) -> News:
        """What is to be written of a group."""
        if fingerprint not in self.dirty:
            self.dirty[fingerprint] = News(self.table[fingerprint].blank())
        return self.dirty[fingerprint]

    def change(self, group: Group, state: str, by: dict[str, Any] | None, at: int) -> None:
        """A group gets another state at an instant; by whom, if somebody has said so."""
        news = self.news(group.fingerprint)
        if news.changed is None:
            news.over = group.by
        news.changed, group.state, group.until, group.by = at, state, None, by

    def joined(self, theirs: Group, node: str) -> Group:
        """A group as its file, whose content was `theirs`, should tell it: the newest word counts.

        Clocks are compared only where somebody else has said something meanwhile.
        """
        mine = self.table.get(theirs.fingerprint)
        if mine is None:
            return theirs
        news = self.dirty.get(theirs.fingerprint)
        found = mine.joined(theirs, mine.blank() if news is None else news.fresh, node)
        if news is None or news.changed is None:
            return found
        if theirs.by == news.over or news.changed > _said(theirs):
            found.state, found.until, found.by = mine.state, mine.until, mine.by
        return found

    def count(self, content: dict[str, Any], at: int, limits: tuple[int, int]) -> str:
        """One failure, as its record tells it; why its parent should hear of it, or nothing.

        `limits`: so many failures within so many us are frequent.
        """
        error = content["error"]
        found = self.table.get(error["fingerprint"])
        why = ""
        if found is None:
            found, why = _new(content, at), "new"
            self.put(found)
        elif found.state == "resolved":
            why = "back"
            self.change(found, "open", None, at)
        elif found.state == "muted" and not found.muted(at):
            self.change(found, "open", None, at)
        self.table.move_to_end(found.fingerprint)
        example = {"id": content["id"], "attempt": content["attempt"], "at": format_utc(at)}
        final = content["event"] == "failed"
        for one in (found, self.news(found.fingerprint).fresh):
            one.add(at, final=final, version=content["version"], node=content["node"], example=example)
        frequent = self._frequent(found, at, *limits)
        return "" if found.muted(at) else why or frequent

    def recall(self, name: str, at: int, many: int) -> deque[int]:
        """When the last `many` failures of a group were; one that is counted was at this instant too."""
        lately = self._lately.get(name)
        if lately is None or lately.maxlen != many:
            lately = self._lately[name] = deque(lately or (), maxlen=many)
        lately.append(at)
        return lately

    def _frequent(self, group: Group, at: int, many: int, window: int) -> str:
        """Once, when it has become frequent; again when it was not for a whole window."""
        lately = self.recall(group.fingerprint, at, many)
        if len(lately) < many or max(lately) - min(lately) > window:
            return ""
        name = group.fingerprint
        before = (group.frequent, self._frequent_at.get(name))
        group.frequent = self._frequent_at[name] = self.news(name).fresh.frequent = at
        return "frequent" if all(one is None or abs(at - one) > window for one in before) else ""


def _said(group: Group) -> int:
    """When somebody gave it its state, us; 0 where nobody has."""
    try:
        return parse_utc((group.by or {})["at"])
    except (KeyError, TypeError, ValueError):
        return 0


def _new(content: dict[str, Any], at: int) -> Group:
    error = content["error"]
    return Group(
        fingerprint=error["fingerprint"],
        task=content["task"],
        type=str(error["type"])[:200],
        message=str(error["message"])[:MESSAGE],
        place=place(error),
        first=at,
        last=at,
    )


def mark(move: Move) -> str:
    """The fingerprint of a failure; nothing where it has no record."""
    return "" if move.record is None else str(move.record["error"]["fingerprint"])


def failed(state: State, move: Move, now: Now) -> list[Action]:
    """Count a failure; the event that tells of its group, if that is worth it."""
    if move.record is None:
        return []
    settings = state.settings
    limits = (settings.recurring_count, settings.recurring_window)
    why = state.groups.count(move.record, now.wall, limits)
    if why and move.event != "poison":  # that is told as a recurring error already
        return [_tell(state, move.record, why, now)]
    return []


def _tell(state: State, record: dict[str, Any], why: str, now: Now) -> Tell:
    group = state.groups.table[record["error"]["fingerprint"]]
    said = {
        "why": why,
        "count": group.count,
        "failed": group.failed,
        "first": format_utc(group.first),
        "hour": group.within(HOUR, now.wall),
        "day": group.within(DAY, now.wall),
    }
    content = {**record, "event": "recurring-error", "group": said}
    parent, at = record["parent"], state.told_at(now.wall)
    return Tell(Message("recurring-error", parent, at, record["id"], record["task"], content))
