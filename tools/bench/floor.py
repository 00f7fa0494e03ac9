"""What the file system alone allows: the calls that spoold makes for a task, and nothing between them.

    python tools/bench/floor.py [--dir DIR] [--number 20000] [--repeat 3] [--json]

The same calls on the same names in the same batches as spoold makes (strace tells), relaxed, in one
process that decides nothing, encodes nothing and runs nothing. *taken in*: a dropped file read, written
down as a task, given its place in pending/, and removed. *run*: after that claimed, its record written,
told of and done. *programs*: these, and beside them in a second process those that its keeper makes, two
of /bin/true at once; neither waits for the other. Beside them, in the same run, spool itself with one
worker and with two programs at once, and the prototype of prototype.py. What spool takes beyond the
calls is its own work; nothing it does can make up for them.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from multiprocessing import Barrier, Process
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

import burst
import programs
import prototype
import pythons

from spool.bench import speed
from spool.bench.figures import environment, listing

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

FOLDERS = ("incoming", "running", "ids", "pending", "attempts", "done", "outbox", "tmp")
BATCH = 128  # tasks whose steps are made together
TASK, RECORD, LINE = b"x" * 260, b"x" * 600, b"x" * 300  # bytes that spoold writes of a no-op task
FILES = 10  # that a task may need
TAKEN, RUN = "the calls alone, taken in", "the calls alone, taken in and run"
TRUE = ["/bin/true"]
SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    os.close(fd)


def _journal(lines: int) -> None:
    fd = os.open("journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, LINE * lines)
    os.close(fd)


def _stage(names: list[str], data: bytes, folder: str) -> None:
    for name in names:
        _write(f"running/.{name}", data)
    for name in names:
        os.link(f"running/.{name}", f"{folder}/{name}")
    _journal(len(names))


def take_in(names: list[str]) -> None:
    """What spoold does with a slice of incoming/."""
    for name in names:
        path = f"incoming/{name}"
        os.lstat(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        os.fstat(fd)
        os.read(fd, 1 << 16)
        os.close(fd)
        os.lstat(path)
        try:
            os.lstat(f"ids/{name}")
        except FileNotFoundError:
            pass
    _stage(names, TASK, "ids")
    for name in names:
        os.rename(f"running/.{name}", f"pending/{name}")
    for name in names:
        os.lstat(f"incoming/{name}")
        os.unlink(f"incoming/{name}")


def run(names: list[str]) -> None:
    """What spoold does with tasks that a worker runs."""
    for name in names:
        os.rename(f"pending/{name}", f"running/{name}")
    _journal(len(names))
    _stage(names, RECORD, "attempts")
    for name in names:
        os.rename(f"running/{name}", f"done/{name}")
    for name in names:
        os.rename(f"running/.{name}", f"outbox/{name}")


def calls(place: Path, number: int, *, runs: bool, ready: threading.Barrier | None = None) -> float:
    """Tasks a second; `ready` is waited at before the first of them."""
    for name in FOLDERS:
        (place / name).mkdir()
    before = Path.cwd()
    os.chdir(place)
    try:
        for n in range(number):
            _write(f"tmp/{n}", b'{"task": "noop", "at": "+1d"}')
            os.rename(f"tmp/{n}", f"incoming/{n:032x}.json")
        os.sync()
        if ready is not None:
            ready.wait()
        begun = time.monotonic_ns()
        names = sorted(os.listdir("incoming"))
        for at in range(0, number, BATCH):
            take_in(names[at : at + BATCH])
            if runs:
                run(names[at : at + BATCH])
        return number * 1e9 / (time.monotonic_ns() - begun)
    finally:
        os.chdir(before)


def keep(number: int, ready: threading.Barrier) -> None:
    """What the keeper does for so many programs, two at once, but to wait and to speak to spoold."""
    ready.wait()
    outputs: dict[int, int] = {}
    left = number
    while left or outputs:
        while left and len(outputs) < 2:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            source = os.memfd_create("stdin")
            os.pwrite(source, TASK, 0)
            actions = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((source, writer, writer))]
            pid = os.posix_spawn(
                *(TRUE[0], TRUE, {}), file_actions=actions, setsid=True, setsigmask=(), setsigdef=SIGNALS
            )
            os.close(source)
            os.close(writer)
            outputs[pid], left = reader, left - 1
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert found is not None
        os.kill(-found.si_pid, signal.SIGKILL)
        os.wait4(found.si_pid, 0)
        reader = outputs.pop(found.si_pid)
        os.read(reader, 1 << 16)
        os.close(reader)


def calls_of_programs(place: Path, number: int) -> float:
    """Programs a second, where both processes do nothing but their calls."""
    ready = Barrier(2)
    keeper = Process(target=keep, args=(number, ready))
    keeper.start()
    rate = calls(place, number, runs=True, ready=ready)
    behind = time.monotonic_ns()
    keeper.join()
    if keeper.exitcode:
        raise RuntimeError(keeper.exitcode)
    return number * 1e9 / (number * 1e9 / rate + time.monotonic_ns() - behind)


CONTENDERS: dict[str, Callable[[Path, int], float]] = {
    TAKEN: lambda place, number: calls(place, number, runs=False),
    "spool, taken in": lambda place, number: burst.run(place, "lying", number)[0],
    RUN: lambda place, number: calls(place, number, runs=True),
    "spool, taken in and run": lambda place, number: pythons.once(place, "relaxed", 1, number),
    "prototype": lambda place, number: prototype.rate(place, 1, number),
    "the calls alone, of programs": calls_of_programs,
    "spool, programs": lambda place, number: programs.rate(place, "relaxed", 2, number),
    "prototype, programs": lambda place, number: prototype.rate(place, 2, number, spawn=True),
}


def main() -> int:
    """Measure and print."""
    args = pythons.options(__doc__, 20_000).parse_args()
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(args.repeat):
        for name, contender in CONTENDERS.items():
            with speed.room(args.dir, FILES * args.number) as place:
                found[name].append(contender(place, args.number))
                about = environment(place)
    if args.json:
        print(json.dumps({"environment": about, "tasks_a_second": found}))
        return 0
    print(listing(about))
    print("\n| | tasks/s | min | max | us a task |\n|---|---:|---:|---:|---:|")
    for name, rates in found.items():
        median = statistics.median(rates)
        print(f"| {name} | {median:,.0f} | {min(rates):,.0f} | {max(rates):,.0f} | {1e6 / median:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
