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
        Refused,
        SpoolError,
        TimedOut,
    )
    from spool.views import Event, Listed, TaskView

__all__ = [
    "Busy",
    "ConfigError",
    "Event",
    "Full",
    "Invalid",
    "Listed",
    "NoSuchTask",
    "NotASpool",
    "NotAllowed",
    "Refused",
    "Spool",
    "SpoolError",
    "TaskView",
    "TimedOut",
    "__version__",
]

_MODULES = {"Spool": "client", "Event": "views", "Listed": "views", "TaskView": "views"}


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
