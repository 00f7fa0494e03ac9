"""The plots of the first page: what a stretch of time has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command.render import clock
from spool.dash import plots
from spool.dash.plots import Frame, Series
from spool.scene.flow import TIERS, quantile, total
from spool.scene.words import number, seconds, short
from spool.times import HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.dash.source import Source
    from spool.scene.flow import Bucket

# Of each range: the width of a value in us, how many there are.
RANGES = {"15m": (10 * SECOND, 90), "1h": (MINUTE, 60), "24h": (10 * MINUTE, 144), "7d": (HOUR, 168)}
COUNTED = ("taken", "started", "done", "failed", "failures", "cancelled", "met", "late")


def flow(source: Source, chosen: str, now: int) -> dict[str, Any]:
    """Plots and sums of one of RANGES."""
    width, many = RANGES[chosen]
    starts, buckets = _buckets(source, width, many, now)
    with source.lock:
        shut = source.flow.shut(starts[0], now)
    every = total(buckets)

    def frame(title: str, say: Callable[[float], str], **more: Any) -> Frame:
        def told(us: int) -> str:
            return clock(us, now)[: -3 if width < HOUR and len(clock(us, now)) == 8 else 16]

        return Frame(title=title, starts=starts, width=width, say=say, clock=told, **more)

    def counted(name: str, what: str, look: str) -> Series:
        return Series(name, [b.counts.get(what, 0) for b in buckets], look)

    def timed(what: str) -> list[Series]:
        rows = [getattr(bucket, what) for bucket in buckets]
        return [
            Series("median", [quantile(row, 0.5) for row in rows], "s-one"),
            Series("95 %", [quantile(row, 0.95) for row in rows], "s-two"),
        ]

    ended = [counted(name, name, f"s-{name}") for name in ("done", "failed", "cancelled")]
    deadlines = [counted("met", "met", "s-done"), counted("missed", "late", "s-failed")]
    load = frame("Load", lambda value: f"{value:.3g}", shaded=shut, shade="gate shut,")
    return {
        "totals": {name: number(every.counts.get(name, 0)) for name in COUNTED},
        "wait_p": [seconds(quantile(every.waits, share)) for share in (0.5, 0.95)],
        "run_p": [seconds(quantile(every.runs, share)) for share in (0.5, 0.95)],
        "ended_plot": plots.bars(frame("Ended", short), ended),
        "wait_plot": plots.lines(frame("Waited", seconds, time=True), timed("waits")),
        "run_plot": plots.lines(frame("Ran", seconds, time=True), timed("runs")),
        "late_plot": plots.bars(frame("Deadlines", short), deadlines),
        "load_plot": plots.lines(load, [_load(source, starts, width)]),
        "gate_shut": len(shut),
    }


def _buckets(source: Source, width: int, many: int, now: int) -> tuple[list[int], list[Bucket]]:
    """(starts, buckets), made of the widest buckets that are kept and fit."""
    base = max(kept for kept, _ in TIERS if width % kept == 0)
    per = width // base
    with source.lock:
        fine = source.flow.last(base, many * per, now)
    first = now // base * base - (many * per - 1) * base
    buckets = [total(fine[at : at + per]) for at in range(0, len(fine), per)]
    return [first + at * width for at in range(many)], buckets


def _load(source: Source, starts: list[int], width: int) -> Series:
    """The load of this machine, as far as it was looked at."""
    values: list[float | None] = [None] * len(starts)
    for at, value in list(source.loads):
        index = (at - starts[0]) // width
        if 0 <= index < len(values):
            values[index] = max(value, values[index] or 0.0)
    return Series("load", values, "s-one")
