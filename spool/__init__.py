"""A message queue and task runner that is a directory: `Spool` is the client, spool(5) the format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spool.client import Spool
    from spool.errors import (
        Busy,
        ConfigError,
        Full,
        Invalid,
        NoSuchTask,
        NotAllowed,
        NotASpool,
        NotServed,
        Refused,
        SpoolError,
        TimedOut,
    )
    from spool.results import result
    from spool.tasks import Cancelled, Fail, Retry, Snooze, SoftTimeout, current, task
    from spool.views import Event, Listed, TaskView

__all__ = [
    "Busy",
    "Cancelled",
    "ConfigError",
    "Event",
    "Fail",
    "Full",
    "Invalid",
    "Listed",
    "NoSuchTask",
    "NotASpool",
    "NotAllowed",
    "NotServed",
    "Refused",
    "Retry",
    "Snooze",
    "SoftTimeout",
    "Spool",
    "SpoolError",
    "TaskView",
    "TimedOut",
    "__version__",
    "current",
    "result",
    "task",
]

_TASKS = ("Cancelled", "Fail", "Retry", "Snooze", "SoftTimeout", "current", "task")
_MODULES = {
    "Spool": "client",
    "result": "results",
    **dict.fromkeys(("Event", "Listed", "TaskView"), "views"),
    **dict.fromkeys(_TASKS, "tasks"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: spoold and other programs need only parts of this package."""
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("spool")
    except metadata.PackageNotFoundError:
        return "0+uninstalled"
