"""How a handler treats its neighbours: set in its own process, before its program is there."""

from __future__ import annotations

import ctypes
import os
import resource  # here and not late: without descriptors nothing can be imported
import sys

from .libc import LIBC

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers of ioprio_set(2), by what the kernel calls the machine; a Python of 32 bits has others, also
# under a kernel of 64.
IOPRIO_SET = (
    {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
    if sys.maxsize > 1 << 32
    else {"x86_64": 289, "i686": 289, "aarch64": 314, "armv8l": 314, "armv7l": 314, "armv6l": 314}
)
BEST_EFFORT, IDLE = 2 << 13, 3 << 13
CLASSES = {"high": BEST_EFFORT | 0, "low": BEST_EFFORT | 7, "idle": IDLE}
SPARE = 5  # seconds of CPU time between the signal that asks (XCPU) and the one that does not (KILL)


def parse(message: object) -> dict[str, int | str]:
    """What an order says of it; ValueError where that is nonsense."""
    if message is None:
        return {}
    if not isinstance(message, dict) or not message.keys() <= SET.keys():
        raise ValueError(f"niceness: must be an object of {', '.join(SET)}")
    for name, value in message.items():
        if not isinstance(value, str if name in ("cgroup", "ionice") else int):
            raise ValueError(f"niceness: {name} cannot be {value!r}")  # noqa: TRY004 - a wrong message
    return message


def apply(niceness: dict[str, int | str]) -> None:
    """Set it for this process and what it becomes; OSError that names the part."""
    for name, put in SET.items():
        if name in niceness:
            try:
                put(niceness[name])
            except (OSError, ValueError, KeyError) as error:
                code = getattr(error, "errno", None) or 22
                raise OSError(code, os.strerror(code), f"{name} {niceness[name]}") from None


def _cgroup(path: str) -> None:
    with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


def _nice(value: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, value)


def _ionice(value: str) -> None:
    number = IOPRIO_SET.get(os.uname().machine)
    if number is None or LIBC.syscall(number, 1, 0, CLASSES[value]):
        raise OSError(ctypes.get_errno() if number else 38, "ioprio_set")


def _oom_score_adj(value: int) -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(value))


def _cpu(seconds: int) -> None:
    _limit(resource.RLIMIT_CPU, seconds, seconds + SPARE)


def _memory(size: int) -> None:
    """Of data, not of address space: what a program reserves and never uses is no memory."""
    _limit(resource.RLIMIT_DATA, size, size)


def _files(number: int) -> None:
    _limit(resource.RLIMIT_NOFILE, number, number)


def _file_size(size: int) -> None:
    _limit(resource.RLIMIT_FSIZE, size, size)


def _processes(number: int) -> None:
    _limit(resource.RLIMIT_NPROC, number, number)


def _limit(kind: int, soft: int, hard: int) -> None:
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


# The limit on memory last: from there on this process has no more either.
SET: dict[str, Callable[..., None]] = {
    "cgroup": _cgroup,
    "nice": _nice,
    "ionice": _ionice,
    "oom_score_adj": _oom_score_adj,
    "cpu": _cpu,
    "files": _files,
    "file_size": _file_size,
    "processes": _processes,
    "memory": _memory,
}
