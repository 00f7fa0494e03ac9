"""Every transition a task can make: state -> event -> next state. What is not here cannot happen.

A row that leads back to its own state is a change within it or a harmless duplicate; an empty row
is a decision. man pages, diagram and journal take their words from this table.
"""

from __future__ import annotations

from typing import Final

from spool.fields import VERBS

NEW = "new"
PENDING = "pending"
HELD = "held"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
CORRUPT = "corrupt"

TABLE: Final[dict[str, dict[str, str]]] = {
    NEW: {
        "submit": PENDING,
        "park": HELD,  # no code for it yet
    },
    PENDING: {
        "claim": RUNNING,
        "lift": PENDING,  # its deadline is near: high, once
        "late": PENDING,  # its deadline has passed: told, once
        "duplicate": CANCELLED,  # another task had its key when it came
        "expire": FAILED,  # its deadline has passed and on_miss is fail
        "drop": CANCELLED,  # its deadline has passed and on_miss is drop
        "give_up": FAILED,  # the result it is to be given is not there
        "park": HELD,  # the code for it went away
        "hold": HELD,
        "move": PENDING,
        "cancel": CANCELLED,
        "release": PENDING,  # already released
        "retry": PENDING,  # already retried
        "quarantine": CORRUPT,  # its own copy is damaged
    },
    HELD: {
        "late": HELD,
        "expire": FAILED,
        "drop": CANCELLED,
        "release": PENDING,
        "move": HELD,
        "cancel": CANCELLED,
        "strand": CANCELLED,  # a task it waits for has failed
        "hold": HELD,  # for want of code, or already by somebody
        "retry": PENDING,
        "quarantine": CORRUPT,
    },
    RUNNING: {
        "succeed": DONE,
        "fail": PENDING,  # a failed attempt, and another one is left
        "give_up": FAILED,  # a failed attempt, and none is left
        "lose": PENDING,  # the daemon, the machine or the worker died
        "interrupt": PENDING,  # a drain cut it off
        "snooze": PENDING,  # it asked to run later
        "return": PENDING,  # handed on ahead of time, and not begun
        "park": HELD,  # the code here cannot run it
        "poison": HELD,  # it has taken its worker down too often
        "kill": RUNNING,  # its cancel is accepted, and its process told to end
        "cancel": CANCELLED,
        "late": RUNNING,
        "extend": RUNNING,
    },
    DONE: {},
    FAILED: {
        "retry": PENDING,
    },
    CANCELLED: {
        "retry": PENDING,
        "cancel": CANCELLED,  # already cancelled
    },
    CORRUPT: {},
}

TERMINAL: Final = (DONE, FAILED, CANCELLED, CORRUPT)


class Illegal(Exception):
    """The table has no such row. Fields: state, event."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(state, event)
        self.state = state
        self.event = event

    def __str__(self) -> str:
        allowed = ", ".join(verb for verb in VERBS if verb in TABLE[self.state])
        hint = f"; it takes {allowed}" if allowed else ""
        return f"a task that is {self.state} takes no {self.event}{hint}"


def after(state: str, event: str) -> str:
    """The state that follows, or Illegal."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise Illegal(state, event) from None
