"""The plots of the first page: what a stretch of time has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.command.render import clock
from spool.dash import plots
from spool.dash.plots import Frame, Series
from spool.machine import zone_of
from spool.scene.flow import TIERS, quantile, total
from spool.scene.words import number, seconds, short
from spool.times import HOUR, MINUTE, SECOND, moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.dash.source import Source
    from spool.scene.flow import Bucket

# Of each range: the width of a value in us, how many there are.
RANGES = {"15m": (10 * SECOND, 90), "1h": (MINUTE, 60), "24h": (10 * MINUTE, 144), "7d": (HOUR, 168)}
LOOKS = ("s-one", "s-two", "s-three", "s-four")  # of nodes
COUNTED = ("taken", "started", "done", "failed", "failures", "cancelled", "met", "late")


def flow(source: Source, chosen: str, now: int) -> dict[str, Any]:
    """Plots and sums of one of RANGES."""
    width, many = RANGES[chosen]
    starts, buckets = _buckets(source, width, many, now)
    with source.lock:
        shut = source.flow.shut(starts[0], now)
    every = total(buckets)

    def frame(title: str, say: Callable[[float], str], **more: Any) -> Frame:
        return Frame(title=title, starts=starts, width=width, say=say, **clocks(width, now), **more)

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
    nodes = sorted({node for bucket in buckets for node in bucket.loads})[: len(LOOKS)]
    loads = [
        Series(node, [b.loads.get(node) for b in buckets], LOOKS[at]) for at, node in enumerate(nodes)
    ]
    load = frame("Load", lambda value: f"{value:.3g}", shaded=shut, shade="gate shut,")
    return {
        "totals": {name: number(every.counts.get(name, 0)) for name in COUNTED},
        "wait_p": [seconds(quantile(every.waits, share)) for share in (0.5, 0.95)],
        "run_p": [seconds(quantile(every.runs, share)) for share in (0.5, 0.95)],
        "ended_plot": plots.bars(frame("Ended", short), ended),
        "wait_plot": plots.lines(frame("Waited", seconds, time=True), timed("waits")),
        "run_plot": plots.lines(frame("Ran", seconds, time=True), timed("runs")),
        "late_p": [seconds(quantile(every.lates, share)) for share in (0.5, 0.95)],
        "met_plot": plots.bars(frame("Deadlines", short), deadlines),
        "late_plot": plots.lines(frame("Late by", seconds, time=True), timed("lates")),
        "load_plot": plots.lines(load, loads),
        "load_of": [(row.name, row.look) for row in loads],
        "gate_shut": len(shut),
    }


def clocks(width: int, now: int) -> dict[str, Any]:
    """How a plot names times: in full where the reader points, in short below it."""
    zone = zone_of("")

    def told(us: int) -> str:
        full = clock(us, now)
        return full[:16] if len(full) > 8 else full if width < MINUTE else full[:5]

    def axis(us: int) -> str:
        return f"{moment(us, zone):{'%a %H:%M' if width >= HOUR else '%H:%M'}}"

    return {"clock": told, "axis": axis}


def _buckets(source: Source, width: int, many: int, now: int) -> tuple[list[int], list[Bucket]]:
    """(starts, buckets), made of the widest buckets that are kept and fit."""
    base = max(kept for kept, _ in TIERS if width % kept == 0)
    per = width // base
    with source.lock:
        fine = source.flow.last(base, many * per, now)
    first = now // base * base - (many * per - 1) * base
    buckets = [total(fine[at : at + per]) for at in range(0, len(fine), per)]
    return [first + at * width for at in range(many)], buckets
