"""Plots as SVG: bars that stand on each other, lines, a calendar of hours. Pure, and without styles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 440, 140
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 8, 20
INNER = WIDTH - LEFT - RIGHT
TALL = HEIGHT - TOP - BOTTOM
STEPS = (1, 2, 2.5, 5, 10)
TIMES = (60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200, 86_400)  # seconds, beyond which days


class Series(Struct, frozen=True):
    """One row of values, None where there is none; `look` is its class in the style sheet."""

    name: str
    values: Sequence[float | None]
    look: str


class Frame(Struct, frozen=True, kw_only=True):
    """What a plot stands in. `starts`: us UTC of each value; `say`: a value in words, `clock`: a time.

    `axis`: a time in the few characters there are below the plot.
    `shaded`: stretches (from, to in us) that are marked, called `shade`. `time`: values are seconds.
    """

    title: str
    starts: Sequence[int]
    width: int
    say: Callable[[float], str]
    clock: Callable[[int], str]
    axis: Callable[[int], str]
    shaded: Sequence[tuple[int, int]] = ()
    shade: str = ""
    time: bool = False


def bars(frame: Frame, rows: Sequence[Series]) -> Markup:
    """Values on top of each other."""
    totals = [sum(filter(None, column)) for column in zip(*(r.values for r in rows), strict=True)]
    top = nice(max(totals, default=0))
    step = INNER / max(1, len(frame.starts))
    parts = [_axes(frame, top, whole=True)]
    for row_number, row in enumerate(rows):
        for at, value in enumerate(row.values):
            if value:
                below = sum(other.values[at] or 0 for other in rows[:row_number])
                height = TALL * value / top
                y = TOP + TALL - TALL * below / top - height
                parts.append(
                    f'<rect class="{row.look}" x="{LEFT + at * step:.1f}" y="{y:.1f}"'
                    f' width="{max(0.6, step - 0.6):.1f}" height="{max(0.8, height):.1f}"/>'
                )
    return _svg(frame, rows, parts, step)


def lines(frame: Frame, rows: Sequence[Series]) -> Markup:
    """Values joined, where they lie side by side."""
    most = max((v for row in rows for v in row.values if v is not None), default=0)
    top = nice(most, time=frame.time)
    step = INNER / max(1, len(frame.starts))
    parts = [_axes(frame, top)]
    for row in rows:
        path, pen = [], "M"
        for at, value in enumerate(row.values):
            if value is None:
                pen = "M"
                continue
            x, y = LEFT + (at + 0.5) * step, TOP + TALL - TALL * value / top
            alone = pen == "M" and (at + 1 == len(row.values) or row.values[at + 1] is None)
            path.append(f"M{x - 2:.1f} {y:.1f}h4" if alone else f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        parts.append(f'<path class="line {row.look}" d="{"".join(path)}"/>')
    return _svg(frame, rows, parts, step)


def nice(value: float, *, time: bool = False) -> float:
    """The next round number from a value on; 1 for nothing. `time`: seconds, in minutes or hours."""
    if value <= 0:
        return 1.0
    if time and value > 30:
        return next((float(step) for step in TIMES if step >= value), -(-value // 86_400) * 86_400)
    size = 1.0
    while size * 10 <= value:
        size *= 10
    while size > value:
        size /= 10
    return next((size * step for step in STEPS if size * step >= value), size * 10)


def _axes(frame: Frame, top: float, *, whole: bool = False) -> str:
    """Grid and words; of what is counted (`whole`) no half is named."""
    parts = [_shade(frame, a, b) for a, b in frame.shaded]
    for share in (0, 1) if whole and top % 2 else (0, 0.5, 1):
        y = TOP + TALL * (1 - share)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        said = escape(frame.say(top * share) if share else "0")
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{said}</text>')
    many = len(frame.starts)
    for at in range(0, many, max(1, many // 4)):
        x = LEFT + at * INNER / many
        anchor = "start" if at == 0 else "middle"
        said = escape(frame.axis(frame.starts[at]))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{said}</text>')
    return "".join(parts)


def _shade(frame: Frame, first: int, last: int) -> str:
    whole = max(1, len(frame.starts) * frame.width)
    if not frame.starts:
        return ""
    start = max(0.0, (first - frame.starts[0]) / whole)
    end = min(1.0, (last - frame.starts[0]) / whole)
    x, wide = LEFT + start * INNER, max(1.0, (end - start) * INNER)
    text = f"{frame.shade} {frame.clock(first)} to {frame.clock(last)}"
    size = f'x="{x:.1f}" y="{TOP}" width="{wide:.1f}" height="{TALL}"'
    return f'<rect class="shade" {size}><title>{escape(text)}</title></rect>'


def _svg(frame: Frame, rows: Sequence[Series], parts: list[str], step: float) -> Markup:
    hovers = []
    for at, start in enumerate(frame.starts):
        told = [f"{r.name} {frame.say(v)}" for r in rows if (v := r.values[at]) is not None]
        if any(r.values[at] for r in rows):
            text = f"{frame.clock(start)}: {', '.join(told)}"
            hovers.append(
                f'<rect class="hover" x="{LEFT + at * step:.1f}" y="{TOP}" width="{step:.1f}"'
                f' height="{TALL}"><title>{escape(text)}</title></rect>'
            )
    label = f"{frame.title}: {', '.join(row.name for row in rows)}"
    return Markup(  # noqa: S704 - every text in it is escaped above
        f'<svg class="plot" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}{''.join(hovers)}</svg>"
    )
