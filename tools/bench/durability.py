"""Grouped file syncs against a redo log: what a durable transition costs on this disk.

    python tools/bench/durability.py DIR

Each contender takes tasks through the disk steps of a whole life (own copy, record, moves) in groups
of G and is durable when it says so. `files` is what spoold does: sync the files of a group in
parallel, name them, sync the directories, twice. `log` appends the same bytes to one log, one
fdatasync a group, and names the files unsynced; every 5,000 tasks it syncs all files it has written
since (the checkpoint that lets the log be cut), which is part of its time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

BODY = b"x" * 300
RECORD = b"y" * 700
CHECKPOINT = 5000
POOL = ThreadPoolExecutor(16)


def sync(path: str) -> None:
    """Sync a file or a directory."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def sync_all(paths: list[str]) -> None:
    """Sync many, together."""
    if len(paths) == 1:
        sync(paths[0])
    else:
        list(POOL.map(sync, paths))


def write(path: str, data: bytes) -> None:
    """A new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    os.close(fd)


def life(root: str, number: int) -> None:
    """The names a task has in its life, from take-in to its event, after its files are written."""
    os.link(f"{root}/stage/{number}.t", f"{root}/ids/{number}")
    os.rename(f"{root}/stage/{number}.t", f"{root}/run/{number}")


def end(root: str, number: int) -> None:
    """The names of its end."""
    os.link(f"{root}/stage/{number}.r", f"{root}/attempts/{number}")
    os.rename(f"{root}/run/{number}", f"{root}/done/{number}")
    os.rename(f"{root}/stage/{number}.r", f"{root}/out/{number}")


def files(root: str, total: int, group: int) -> None:
    """The way of spoold."""
    for first in range(0, total, group):
        part = range(first, min(first + group, total))
        for n in part:
            write(f"{root}/stage/{n}.t", BODY)
        sync_all([f"{root}/stage/{n}.t" for n in part])
        for n in part:
            life(root, n)
        sync_all([f"{root}/ids", f"{root}/run"])
        for n in part:
            write(f"{root}/stage/{n}.r", RECORD)
        sync_all([f"{root}/stage/{n}.r" for n in part])
        for n in part:
            end(root, n)
        sync_all([f"{root}/attempts", f"{root}/stage", f"{root}/done"])


def log(root: str, total: int, group: int) -> None:
    """The redo log's way."""
    fd = os.open(f"{root}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    dirty: list[str] = []
    for first in range(0, total, group):
        part = range(first, min(first + group, total))
        for data, names in ((BODY, life), (RECORD, end)):
            os.write(fd, b"".join(b"%d " % n + data for n in part))
            os.fdatasync(fd)
            for n in part:
                write(f"{root}/stage/{n}.{'t' if data is BODY else 'r'}", data)
                names(root, n)
        dirty += [f"{root}/done/{n}" for n in part] + [f"{root}/attempts/{n}" for n in part]
        if len(dirty) >= 2 * CHECKPOINT or first + group >= total:
            sync_all(dirty)
            sync_all([f"{root}/{d}" for d in ("ids", "run", "attempts", "done", "stage", "out")])
            dirty.clear()
            os.ftruncate(fd, 0)
    os.close(fd)


def run(place: str) -> None:
    """All contenders in turn, three times, medians."""
    rows: dict[tuple[str, int], list[float]] = {}
    for _ in range(3):
        for group, total in ((1, 300), (10, 2000), (100, 6000), (1000, 12000)):
            for contender in (files, log):
                root = os.path.join(place, "bench-durability")
                for name in ("stage", "ids", "run", "attempts", "done", "out"):
                    os.makedirs(f"{root}/{name}")
                start = time.perf_counter()
                contender(root, total, group)
                rows.setdefault((contender.__name__, group), []).append(
                    total / (time.perf_counter() - start)
                )
                shutil.rmtree(root)
    print("| way | tasks a group | tasks/s median | min | max |\n|---|---|---|---|---|")
    for (name, group), rates in sorted(rows.items()):
        figures = " | ".join(f"{f(rates):,.0f}" for f in (statistics.median, min, max))
        print(f"| {name} | {group} | {figures} |")


if __name__ == "__main__":
    run(sys.argv[1])
