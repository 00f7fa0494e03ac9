"""What the runner tells of handlers."""

from __future__ import annotations

import errno

from msgspec import Struct

FULL = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}  # of the machine, not of a program


class Started(Struct, frozen=True, kw_only=True):
    """The handler runs. `pid` is the leader of its session, `since` when it began, as time.monotonic().

    `ahead`: it was ordered ahead, and may have waited.
    """

    key: str
    pid: int
    since: float
    ahead: bool


class Exited(Struct, frozen=True, kw_only=True):
    """The handler has ended and nothing it started is alive. One of `exit` and `signal` is None.

    rss: bytes, the peak of its largest process, at least that of the keeper (11 MB: a limit of
    the kernel's account). cpu: seconds of user and system time of all it waited for. seconds: from
    start to end; since: that start, as time.monotonic(). logged: bytes of its output in the log. tail:
    its last 4 KiB of output.
    """

    key: str
    exit: int | None
    signal: int | None
    rss: int
    cpu: float
    since: float
    seconds: float
    logged: int
    tail: str
    log_error: str | None


class NotStarted(Struct, frozen=True, kw_only=True):
    """The handler was never started. `errno` is None where the request itself was wrong."""

    key: str
    errno: int | None
    error: str


class Returned(Struct, frozen=True, kw_only=True):
    """The handler was ordered ahead, has not begun, and will not."""

    key: str


class KeeperLost(Struct, frozen=True, kw_only=True):
    """The keeper was killed, these attempts with it. A new keeper is there."""

    keys: tuple[str, ...]


Event = Started | Exited | NotStarted | Returned | KeeperLost
