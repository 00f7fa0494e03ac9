"""Orders as JSON brings them, checked: whatever is wrong in one raises ValueError."""

from __future__ import annotations

import os
import time

from . import niceness


class StartOrder:
    """All that a handler is started from."""

    __slots__ = (
        "ahead", "argv", "cwd", "env", "input", "key", "lane", "limit", "log", "niceness", "rank",
        "stdin", "streams",
    )  # fmt: skip

    def __init__(self, message: dict[str, object], fd: int | None = None) -> None:
        """`fd`: what the handler reads instead of `stdin`."""
        self.input = fd
        self.streams: tuple[int, int, int] | None = None  # made ready: output's ends, and what it reads
        limit = message.get("log_limit")
        if not isinstance(limit, int) or limit < 0:
            raise ValueError("log_limit: must be a number of bytes")
        self.limit = limit
        self.key = text(message, "key")
        self.lane = text(message, "lane") if "lane" in message else ""
        self.ahead = _ahead(message)
        self.rank = _rank(message) if "rank" in message else []
        self.log = text(message, "log")
        self.argv = _argv(message)
        self.env = _env(message)
        self.cwd = None if message.get("cwd") is None else text(message, "cwd")
        self.stdin = text(message, "stdin")
        self.niceness = niceness.parse(message.get("niceness"))

    def close(self) -> None:
        """It is not started: let go of what was made ready for it."""
        for fd in self.streams or ():
            os.close(fd)
        self.streams = None

    def __lt__(self, other: StartOrder) -> bool:
        """Whether it begins before another one of its lane."""
        return self.rank < other.rank


def is_over(lease: int) -> bool:
    """Say if nothing may start any more: the file has us of CLOCK_BOOTTIME, 8 bytes, little end first."""
    until = int.from_bytes(os.pread(lease, 8, 0), "little")
    return 0 < until <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def text(message: dict[str, object], name: str) -> str:
    """A part of a message that is a string."""
    value = message.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be a string")  # noqa: TRY004 - a wrong message, not our bug
    return value


def seconds(message: dict[str, object], name: str) -> float:
    """A part of a message that is a duration."""
    value = message.get(name)
    if not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError(f"{name}: must be a number of seconds")
    return float(value)


def _ahead(message: dict[str, object]) -> int:
    """0 for at once, else it begins when fewer than so many of its lane run."""
    ahead = message.get("ahead", 0)
    if not isinstance(ahead, int) or ahead < 0:
        raise ValueError("ahead: must be a number from 0 on")
    return ahead


def _rank(message: dict[str, object]) -> list[int | str]:
    rank = message.get("rank")
    if not isinstance(rank, list) or [type(part) for part in rank] != [int, str]:
        raise ValueError("rank: must be a number and a string")
    return rank


def _argv(message: dict[str, object]) -> list[str]:
    argv = message.get("argv")
    if not isinstance(argv, list) or not all(isinstance(arg, str) for arg in argv) or not any(argv[:1]):
        raise ValueError("argv: must be a list of strings, the first of them not empty")
    return argv


def _env(message: dict[str, object]) -> dict[str, str]:
    env = message.get("env")
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise ValueError("env: must be an object of strings")
    if any(not name or "=" in name for name in env):
        raise ValueError("env: a name must not be empty or hold '='")
    return env
