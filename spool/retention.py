"""What becomes of what has ended: how long it is kept as it is, packed, or not at all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.names import DAY_US, date_of, day_start

if TYPE_CHECKING:
    from spool.settings import Settings

KEEP, PACK, DROP = "keep", "pack", "drop"


def kept(settings: Settings, state: str, task: str) -> int:
    """For how long a task of this name is kept that ended in this state, us."""
    handler = settings.handler_for(task)
    if handler is not None and handler.keep is not None:
        return handler.keep
    by_state = {
        layout.DONE: settings.keep_done,
        layout.FAILED: settings.keep_failed,
        layout.CANCELLED: settings.keep_cancelled,
    }
    return by_state[state]


def age(date: str, now: int) -> int:
    """How long a UTC date is over, us; not positive while it is not."""
    return now - day_start(date) - DAY_US


def fate(settings: Settings, state: str, date: str, task: str, now: int) -> tuple[str, str]:
    """What is to be done with a task that ended on this date, and until when a pack of it is kept.

    Whole days count: nothing is packed or dropped on the day it ended.
    """
    old, span = age(date, now), kept(settings, state, task)
    expires = date_of(day_start(date) + DAY_US + span)
    if old >= max(span, 0) and old >= 0:
        return DROP, expires
    return (PACK if 0 <= settings.pack_after <= old else KEEP), expires


def stirs(settings: Settings, date: str, now: int) -> bool:
    """Whether anything that ended on this date may be due for something."""
    spans = [settings.pack_after, settings.keep_done, settings.keep_failed, settings.keep_cancelled]
    spans += [h.keep for h in settings.handlers.values() if h.keep is not None]
    return age(date, now) >= max(0, min(spans))


def is_date(name: str) -> bool:
    """Whether the name of a directory is a UTC date."""
    try:
        day_start(name)
    except ValueError:
        return False
    return True
