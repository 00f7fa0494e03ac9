"""What `spool bench` measures: the raw calls, then spools of both durabilities, in the same run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from spool.bench import latency, rates, raw
from spool.bench.figures import Figures
from spool.bench.served import LEAVE, Served, Stamp
from spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DURABILITIES = ("durable", "relaxed")


class Size(Struct, frozen=True):
    """How much of everything."""

    repetitions: int
    samples: int  # of each latency in a repetition
    tasks: int  # through a daemon in a repetition

    @property
    def files(self) -> int:
        """How many of them there are at once, at most."""
        return 10 * (self.tasks + self.samples)


FULL = Size(repetitions=3, samples=50, tasks=500)
QUICK = Size(repetitions=1, samples=5, tasks=20)


class NoRoom(SpoolError):
    """A place to measure in has not what it takes."""


@contextmanager
def room(above: str, files: int) -> Iterator[Path]:
    """An empty directory for so many files; it goes when this ends, by SIGTERM too. NoRoom, OSError."""
    ours = [n for n in LEAVE if signal.getsignal(n) is signal.SIG_DFL]
    place = Path(tempfile.mkdtemp(prefix="spool-bench-", dir=above)).resolve()
    for number in ours:
        signal.signal(number, _leave)
    try:
        found = os.statvfs(place)
        if found.f_files and found.f_favail < files:
            raise NoRoom(f"{above}: {found.f_favail:,} free inodes, not {files:,}: choose another place")
        if found.f_bavail * found.f_frsize < files * 4096:
            raise NoRoom(f"{above}: less than {files * 4096 >> 20:,} MiB free: choose another place")
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: what was started is ended in order
    sys.exit(128 + number)


def measure(place: Path, size: Size, say: Callable[[int, int], None]) -> Figures:
    """All of it, repetitions interleaved; `say` is told how much is done, and of how much."""
    figures, stamp = Figures(), Stamp(place)
    daemons = [Served(place / name, name, stamp) for name in DURABILITIES]
    empty = Served(place / "empty", "durable", stamp)
    try:
        for daemon in daemons:
            daemon.start()
        steps = [
            partial(raw.measure, figures, place / "raw", size.samples),
            partial(latency.measure, figures, daemons, stamp, size.samples),
            *(partial(rates.throughput, figures, daemon, size.tasks) for daemon in daemons),
            partial(rates.submit, figures, empty.root, size.tasks),
        ] * size.repetitions
        for number, step in enumerate(steps):
            say(number, len(steps))
            step()
    finally:
        for daemon in daemons:
            daemon.stop()
    for daemon in daemons:
        shutil.rmtree(daemon.root)  # what is measured next may need the room
    stamp.close()
    return figures
