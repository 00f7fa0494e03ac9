"""A progress bar on a terminal, for commands that take long; in a pipe there is none."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from spool.safe import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spool.disk import Disk

EVERY = 0.1  # seconds between two pictures
QUIET = 0.3  # seconds before the first one: what is over by then needs none
BLOCKS = 24  # columns of the bar
CLEAR = "\r\x1b[K"


class Bar:
    """One line on standard error that says how far a command is, and goes when it ends.

    `total` is what there is to do, None where nobody knows; `of` names it. Nothing is written where
    standard error is no terminal.
    """

    def __init__(self, verb: str, total: int | None = None, of: str = "tasks") -> None:
        self.shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.verb, self.total, self.of = verb, total, of
        self.done = 0
        self._began = time.monotonic()
        self._next = self._began + QUIET
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def step(self, many: int = 1) -> None:
        """So many more are done."""
        self.done += many
        if self.shown and time.monotonic() >= self._next:
            share = min(1.0, self.done / self.total) if self.total else None
            self.draw(share, self._numbers(share))

    def draw(self, share: float | None, text: str) -> None:
        """The line anew: `share` of the whole (0 to 1; None: nobody knows) and words."""
        if not self.shown:
            return
        self._next, self._drawn = time.monotonic() + EVERY, True
        bar = ""
        if share is not None:
            full = round(share * BLOCKS)
            bar = f"[{'#' * full}{'.' * (BLOCKS - full)}] {share:4.0%}  "
        from spool.command.render import clip

        line = clip(safe(f"{self.verb}  {bar}{text}"), shutil.get_terminal_size().columns - 1)
        print(f"{CLEAR}{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for another line; the next step draws it again."""
        if self._drawn:
            print(CLEAR, end="", file=sys.stderr, flush=True)
            self._drawn = False

    def _numbers(self, share: float | None) -> str:
        took = time.monotonic() - self._began
        if share is None:
            return f"{self.done:,} {self.of}"
        left = took * (1 - share) / share if share else 0.0
        soon = f"  {left:,.0f} s left" if took > 1 else ""
        return f"{min(self.done, self.total or 0):,} of {self.total:,} {self.of}{soon}"

    def reads(self, disk: Disk) -> Any:
        """The same disk; each file read from it is a step."""
        return _Reads(disk, self) if self.shown else disk

    def names(self, disk: Disk) -> Any:
        """The same disk; each name listed by it in slices is a step."""
        return _Names(disk, self) if self.shown else disk


class _Watched:
    def __init__(self, disk: Disk, bar: Bar) -> None:
        self._disk, self._bar = disk, bar

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)


class _Reads(_Watched):
    def read(self, path: str, limit: int) -> bytes:
        self._bar.step()
        return self._disk.read(path, limit)


class _Names(_Watched):
    def slices(self, path: str, size: int) -> Iterator[list[str]]:
        for names in self._disk.slices(path, size):
            self._bar.step(len(names))
            yield names
