"""Numbers, bars and times as people read them at a glance. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool.times import format_span

if TYPE_CHECKING:
    from collections.abc import Sequence

TICKS = "▁▂▃▄▅▆▇█"
CELLS = " ▏▎▍▌▋▊▉█"


def number(many: float) -> str:
    """1234567 as 1,234,567."""
    return f"{many:,.0f}"


def short(many: float) -> str:
    """1234567 as 1.2M, in at most four characters, for where there is no room."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        value = many / size
        if value >= (9.9995 if letter == "k" else 0.9995):  # what rounding would make five characters
            return f"{value:.1f}{letter}" if value < 9.95 else f"{value:.0f}{letter}"
    return f"{many:.0f}"


def seconds(value: float | None) -> str:
    """A duration in a few characters: 2.5 ms, 48 ms, 1.2 s, 4:05, 2 h 5 min."""
    if value is None:
        return "-"
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60}:{int(value) % 60:02d}"
    return format_span(int(value) * 1_000_000)


def spark(values: Sequence[float]) -> str:
    """A line of bars: nothing is a blank, the most is a whole cell."""
    most = max(values, default=0)
    if most <= 0:
        return " " * len(values)
    return "".join(TICKS[min(7, int(v / most * 7.999))] if v > 0 else " " for v in values)


def bar(share: float, width: int) -> str:
    """A bar of so many cells, filled by `share` (0 to 1)."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    text = CELLS[8] * (eighths // 8)
    if eighths % 8:
        text += CELLS[eighths % 8]
    return text.ljust(width)
