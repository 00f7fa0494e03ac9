"""How many processes at once: one more while that gets more done, half as many under pressure."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from spool.times import SECOND

STEP = 2 * SECOND  # us between two changes: what a change did is to be seen first
CALM = 10 * SECOND  # us between two halvings: pressure is an average of ten seconds
AGAIN = 60 * SECOND  # us until more is tried again where it had got nothing more done
BETTER = 1.05  # throughput has grown
BEYOND = 4  # times the usual number, where the settings name none


class Pace(Struct, frozen=True, kw_only=True):
    """How many at once, since when (monotonic us), and what that has got done.

    `ended`: how many had ended by then. `before`: throughput (a second) before the last increase.
    `wait`: no increase before this instant. `calm`: no halving before this one.
    """

    level: int
    since: int = 0
    ended: int = 0
    before: float = 0.0
    wait: int = 0
    calm: int = 0


def adapt(  # noqa: PLR0913 - what it is judged by
    pace: Pace, *, pressed: bool, full: bool, ended: int, usual: int, most: int, now: int, least: int = 1
) -> Pace:
    """The pace from now on.

    `pressed`: the machine is beyond a threshold. `full`: as many run as may. `ended`: how many
    processes have ended since the start. Below `usual` it climbs without proof, above it with; never
    above `most`, never below `least`. Where fewer run than may it was neither too many nor too few.
    """
    level = min(max(pace.level, least), most)
    if full and pressed and now >= pace.calm:
        return Pace(level=min(max(least, level // 2), most), since=now, ended=ended, calm=now + CALM)
    if not full or pressed or now - pace.since < STEP or now < pace.wait or level >= most:
        return replace(pace, level=level)
    return _climb(pace, level, ended, usual, now)


def _climb(pace: Pace, level: int, ended: int, usual: int, now: int) -> Pace:
    if level < usual:
        return replace(pace, level=level + 1, since=now, ended=ended)
    if ended - pace.ended < 2 * level:
        return replace(pace, level=level)  # too few to tell
    rate = (ended - pace.ended) * SECOND / (now - pace.since)
    if pace.before and rate < pace.before * BETTER and level > usual:
        return Pace(level=level - 1, since=now, ended=ended, wait=now + AGAIN, calm=pace.calm)
    return replace(pace, level=level + 1, since=now, ended=ended, before=rate)
