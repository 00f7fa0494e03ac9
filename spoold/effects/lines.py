"""What is written about transitions: lines of the journal, reasons of refusals, names of events."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spool import layout, records
from spool.names import event_name
from spool.safe import as_utf8
from spool.times import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spoold.core.values import Message, Move, Refuse


def safe_names(name: str, refusal: Refuse) -> Iterator[str]:
    """Names for a refused file, best first: its own where that is harmless, else made of its id."""
    body = name.removesuffix(".json")
    harmless = (
        0 < len(body) <= 128
        and body[0].isalnum()
        and all(c.isascii() and (c.isalnum() or c in "._-") for c in body)
    )
    if harmless and not name.endswith(layout.REASON):
        yield name
    stem = refusal.message.id
    yield f"{stem}.json"
    yield from (f"{stem}.{refusal.source.ctime}.{number}.json" for number in count())


def name_of(message: Message) -> str:
    """The file name of an event."""
    return event_name(message.at, message.id, message.task, message.event)


def apart(messages: list[Message]) -> list[Message]:
    """Events of one name would be one file: the last progress counts, others are told 1 us later."""
    found: dict[tuple[str, str], Message] = {}
    for message in messages:
        own = message
        while message.event != "progress" and (own.parent, name_of(own)) in found:
            own = replace(own, at=own.at + 1)
        found[own.parent, name_of(own)] = own
    return list(found.values())


def transition(node: str, move: Move, now: int) -> bytes:
    """A transition's line of the journal."""
    entry = move.entry
    line = {
        "at": format_utc(now),
        "event": move.event,
        "id": entry.id,
        "task": entry.task,
        "from": move.before,
        "to": move.after,
        "entry": move.target,
        "node": node,
        **move.note,
    }
    if move.key is not None:
        line["key"] = move.key
    return records.encode(line)


def refusal(node: str, refusal: Refuse, now: int) -> bytes:
    """A refusal's line of the journal."""
    message = refusal.message
    line = {"at": format_utc(now), "event": "refuse", "id": message.id, "task": message.task}
    return records.encode({**line, "node": node, "reason": refusal.reason})


def other(node: str, note: dict[str, Any], now: int) -> bytes:
    """The line of what belongs to no task."""
    return records.encode({"at": format_utc(now), **note, "node": node})


def reason(refusal: Refuse) -> bytes:
    """What stands beside a refused file."""
    name = as_utf8(refusal.source.path.rpartition("/")[2])
    return records.encode({"id": refusal.message.id, "name": name, **refusal.reason})
