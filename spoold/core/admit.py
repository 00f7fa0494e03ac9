"""Does the machine have room for one more task? Values in, a verdict out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from spool.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spool.settings import Admission

LOOK_FIRST, LOOK_LAST = SECOND, 5 * SECOND  # us between two looks while the gate is closed
ROOM_AGAIN = 1.1  # a disk that was short has room again above its minimum times this
GIB = 1 << 30


class Machine(Struct, frozen=True, kw_only=True):
    """One look at the machine, at a monotonic instant (us). None: it does not tell.

    All that is limited for us alone (a cgroup) is told as it is for us. Pressures are % of time in
    the last 10 s; `heat` is % of the critical temperature; `battery` % left, None on mains.
    """

    at: int
    cpus: int  # of the whole machine
    cores: float  # that we may use
    total: int  # bytes of memory we could have
    available: int  # bytes of it
    load: float | None = None  # load average of the whole machine
    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    io_pressure: float | None = None
    swap: float | None = None  # MiB a second, in and out
    heat: float | None = None
    battery: float | None = None
    short: str = ""  # the file system that is full, in words
    resident: Mapping[str, int] = field(default_factory=dict)  # bytes each task that runs has now
    running: int = 0  # processes of ours


class Demand(Struct, frozen=True, kw_only=True):
    """What a task will need: memory at its peak (bytes), CPUs kept busy. `shown`: it has run before."""

    task: str
    memory: int
    cores: float
    shown: bool


class Limits(Struct, frozen=True, kw_only=True):
    """What the settings say, which signals hold the gate closed, and since when (monotonic us)."""

    admission: Admission
    closed: frozenset[str] = frozenset()
    since: int | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """`yes`, or why not. `hard`: not even a deadline changes it; `never`: no waiting does.

    `closed` are the signals that are beyond their threshold.
    """

    yes: bool
    closed: frozenset[str]
    why: str = ""
    hard: bool = False
    never: bool = False
    look: int = 0  # monotonic instant of the next look, where the answer is no


def foresee(machine: Machine, booked: Mapping[str, Demand], traced: float) -> Machine:
    """The machine as it will be when all that was admitted takes what it is expected to take.

    `traced` is our own part of the load average: it rises and falls a minute behind what runs.
    """
    coming = sum(max(0, need.memory - machine.resident.get(i, 0)) for i, need in booked.items())
    load = machine.load
    if load is not None:
        load = max(0.0, load - traced) + sum(need.cores for need in booked.values())
    left = max(0, machine.available - coming)
    return replace(machine, available=left, load=load, running=len(booked))


def admit(machine: Machine, demand: Demand, limits: Limits, now: int) -> Verdict:
    """Whether one more task may start. More pressure, less room or more demand never turns no to yes."""
    shown, closed = signals(machine, limits)
    look = now + LOOK_FIRST
    if limits.since is not None:
        look = now + min(LOOK_LAST, max(LOOK_FIRST, (now - limits.since) // 4))

    def no(why: str, *, hard: bool = False, never: bool = False) -> Verdict:
        return Verdict(yes=False, closed=closed, why=why, hard=hard, never=never, look=look)

    if machine.short:
        return no(machine.short, hard=True)
    needs = f"{demand.task} needs about {size(demand.memory)}"
    if demand.memory > machine.total and (demand.shown or not limits.admission.floor):
        return no(f"{needs}, there are {size(machine.total)} in all", hard=True, never=True)
    free = f"{needs}, {size(machine.available)} free"
    if demand.shown and demand.memory > machine.available:
        return no("; ".join([*shown, free]), hard=True)
    reasons = [*shown, *_too_much(machine, demand, limits.admission, free, closed)]
    if not reasons:
        return Verdict(yes=True, closed=closed)
    if machine.running < limits.admission.floor:
        return Verdict(yes=True, closed=closed, why="; ".join(reasons))
    return no("; ".join(reasons))


def _too_much(
    machine: Machine, demand: Demand, bands: Admission, free: str, closed: frozenset[str]
) -> Iterable[str]:
    """What this one task would be too much for, in words."""
    after = machine.available - demand.memory
    if used(machine.total, after) > bands.memory[0]:
        yield free
    if machine.load is not None and "load" not in closed:
        load = (machine.load + demand.cores) / machine.cpus
        if load > bands.load[0]:
            yield f"load would be {load:.1f} for each CPU, closes above {bands.load[0]:g}"


# name: words, unit
WORDS = {
    "memory": ("memory", " % used"),
    "load": ("load", " for each CPU"),
    "cpu_pressure": ("CPU pressure", " %"),
    "memory_pressure": ("memory pressure", " %"),
    "io_pressure": ("I/O pressure", " %"),
    "swap": ("swapping", " MiB/s"),
    "heat": ("temperature", " % of critical"),
    "battery": ("battery", " %"),
}


def signals(machine: Machine, limits: Limits) -> tuple[list[str], frozenset[str]]:
    """What is beyond its threshold, in words, and by name.

    Each has two: it closes the gate beyond one, and holds it closed until it is back beyond the other.
    """
    shown, closed = [], []
    for name, value in values(machine).items():
        if value is None:
            continue
        closes, opens = getattr(limits.admission, name)
        rising = name != "battery"
        mark = opens if name in limits.closed else closes
        if (value > mark) if rising else (value < mark):
            closed.append(name)
            words, unit = WORDS[name]
            digits = 1 if name == "load" else 0
            way = "below" if rising else "above"
            percent = " %" if "%" in unit else ""
            shown.append(f"{words} {value:.{digits}f}{unit}, opens {way} {opens:g}{percent}")
    return shown, frozenset(closed)


def values(machine: Machine) -> dict[str, float | None]:
    """Every signal as it is compared with its thresholds."""
    load = None if machine.load is None else machine.load / machine.cpus
    return {
        "memory": used(machine.total, machine.available),
        "load": load,
        "cpu_pressure": machine.cpu_pressure,
        "memory_pressure": machine.memory_pressure,
        "io_pressure": machine.io_pressure,
        "swap": machine.swap,
        "heat": machine.heat,
        "battery": machine.battery,
    }


def used(total: int, available: int) -> float:
    """The share of memory in use, %."""
    return 100.0 * (total - available) / total if total > 0 else 100.0


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{max(0, count) / (1 << 20):.0f} MiB"
