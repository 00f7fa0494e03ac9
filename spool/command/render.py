"""How things look on a terminal: columns, colours, times as people say them."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from spool.machine import zone_of
from spool.names import MAX_US
from spool.safe import safe, safe_json
from spool.times import format_local, format_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

COLOURS = {
    "high": "1",
    "low": "2",
    "running": "36",
    "held": "33",
    "late": "33",
    "failed": "31",
    "rejected": "31",
    "bad": "31",
    "warn": "33",
    "ok": "32",
    "done": "32",
    "cancelled": "2",
    "dim": "2",
}


def coloured() -> bool:
    """Whether standard output is a terminal whose user has not declined colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, what: str) -> str:
    """The text in the colour of what it says, where there are colours."""
    code = COLOURS.get(what)
    return f"\x1b[{code}m{text}\x1b[0m" if code and coloured() else text


def json_line(value: object) -> str:
    """A value as one line of JSON; odd bytes of a path are lone surrogates, as os.fsdecode has them."""
    import orjson

    try:
        return safe_json(orjson.dumps(value).decode())
    except TypeError:
        import json

        return json.dumps(value, separators=(",", ":"))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    colour: int | None = None,
    spare: Sequence[int] = (),
) -> None:
    """Print aligned columns; on a terminal the last one is cut to its width.

    `colour`: the column whose words choose the colour of their cells. Every cell is made safe.
    `spare`: columns, from the last to the first, that are left out where the next one would be cut.
    """
    body = [[safe(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(width_of, column)) for column in zip(*body, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for column in spare:
        if room is not None and sum(widths[: column + 2]) + 2 * (column + 1) > room:
            del widths[column]
            for row in body:
                del row[column]
    print(paint(_line(body[0], widths, room), "dim"))
    for row in body[1:]:
        line = _line(row, widths, room)
        print(line if colour is None else _tinted(line, row, widths, colour))


def facts(rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, aligned; a value that is empty or None is left out."""
    shown = [(name, safe(value)) for name, value in rows if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{paint(name.ljust(width), 'dim')}  {value}")


def clock(us: int, now: int) -> str:
    """An instant in the user's time zone: the time of day today, date and time else."""
    zone = zone_of("")
    full = format_local(us, zone)
    return full[11:19] if full[:10] == format_local(now, zone)[:10] else full


def when(us: int, now: int) -> str:
    """An instant relative to now: in 2 h 5 min, 3 min ago."""
    if abs(us - now) < 1_000_000:
        return "now"
    return f"in {format_span(us - now)}" if us > now else f"{format_span(now - us)} ago"


def until(us: int, now: int) -> str:
    """Both: 14:00:00 (in 2 h)."""
    return f"{clock(us, now)} ({when(us, now)})"


def span(seconds: float) -> str:
    """A duration in seconds for people; no record tells of one that is longer than our calendar."""
    us = seconds * 1e6
    return format_span(round(us)) if us < MAX_US else "?"


def progress(told: Mapping[str, Any]) -> str:
    """How far an attempt is, by its own word: 40 % half of the pages."""
    percent, note = told.get("percent"), told.get("note")
    done = f"{percent:.0f} %" if isinstance(percent, int | float) else ""
    return " ".join(filter(None, (done, note and str(note))))


def clip(text: str, width: int) -> str:
    """Text that takes at most `width` columns; what is cut off shows as an ellipsis."""
    if width_of(text) <= width:
        return text
    taken, at = 0, 0
    while at < len(text) and taken + _columns(text[at]) < width:
        taken += _columns(text[at])
        at += 1
    return text[:at] + "…"


def _line(cells: Sequence[str], widths: list[int], room: int | None) -> str:
    parts = [c + " " * (w - width_of(c)) for c, w in zip(cells, widths, strict=True)]
    line = "  ".join(parts).rstrip()
    return line if room is None else clip(line, room)


def _tinted(line: str, row: Sequence[str], widths: list[int], colour: int) -> str:
    start = sum(width + 2 for width in widths[:colour])
    word = row[colour]
    end = start + len(word)
    return f"{line[:start]}{paint(word, word)}{line[end:]}" if end <= len(line) else line


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
