"""What this machine and disk can do at best: the calls a spool is made of, alone."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from spool.bench.figures import SPAWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spool.bench.figures import Figures

DATA = b"x" * 300


def write(path: str) -> None:
    """A new small file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, DATA)
    os.close(fd)


def sync(path: str) -> None:
    """Fsync of a file or directory."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def spawn() -> int:
    """How long posix_spawn and wait of /bin/true take, ns."""
    begun = time.monotonic_ns()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return time.monotonic_ns() - begun


def each(number: int, step: Callable[[int], None]) -> list[int]:
    """The times of so many steps, ns."""
    found = []
    for n in range(number):
        begun = time.monotonic_ns()
        step(n)
        found.append(time.monotonic_ns() - begun)
    return found


def measure(figures: Figures, place: Path, number: int) -> None:
    """One repetition."""
    a, b = str(place / "a"), str(place / "b")
    os.makedirs(a)
    os.makedirs(b)

    def drop(n: int) -> None:
        write(f"{a}/{n}")
        os.rename(f"{a}/{n}", f"{b}/{n}")

    def durable(n: int) -> None:
        write(f"{a}/d{n}")
        sync(f"{a}/d{n}")
        os.rename(f"{a}/d{n}", f"{b}/d{n}")
        sync(b)

    figures.times("raw", SPAWN, [spawn() for _ in range(number)])
    figures.times("raw", "create, write, rename", each(number * 5, drop))
    figures.times("raw", "rename", each(number * 5, lambda n: os.rename(f"{b}/{n}", f"{a}/{n}")))
    for n in range(number):
        write(f"{a}/f{n}")
    figures.times("raw", "fsync of a new file", each(number, lambda n: sync(f"{a}/f{n}")))
    figures.times("raw", "create, write, fsync, rename, fsync of the directory", each(number, durable))
    for folder in (a, b):
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        os.rmdir(folder)
