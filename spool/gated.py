"""What the gate of admission says, in one sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.times import format_span, parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable


def sentence(status: dict[str, Any], now: int, clock: Callable[[int], str]) -> str:
    """Why and since when a node's gate is shut, and what comes next; empty where it is open.

    `status` is a status file as spool(5) describes it, `now` us UTC, `clock` shows an instant.
    """
    gate = status.get("gate") or {}
    if gate.get("open") is not False:
        return ""
    held = [row for row in status.get("held_back") or [] if row.get("why") == gate.get("why")]
    since = _instant(gate, "since")
    text = f"{sum(row.get('ready', 0) for row in held)} ready, held"
    text += f" since {clock(since)}" if since is not None else ""
    parts = [f"{text}: {gate.get('why')}"]
    if (look := _instant(gate, "look_at")) is not None:
        parts.append(f"next look in {format_span(max(0, look - now))}" if look > now else "looks now")
    if (at := _instant(gate, "deadline_at")) is not None:
        parts.append(f"{gate.get('deadline_task')} passes at {clock(at)} (deadline)")
    return "; ".join(parts)


def _instant(row: dict[str, Any], name: str) -> int | None:
    found = row.get(name)
    return parse_utc(found) if isinstance(found, str) else None
