"""Applications in Python: what makes two handlers one, and how a Python is started for one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spool.settings import Handler

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class App(NamedTuple):
    """What makes workers the same: they serve all handlers that agree in it."""

    module: str
    interpreter: str | None
    cwd: str | None
    env: tuple[tuple[str, str], ...]
    care: tuple[int, ...] = ()  # how many coroutines a worker has at once, and when it is replaced


def app_of(handler: Handler) -> App:
    """The application of a `python` handler."""
    one = handler
    care = (one.async_tasks, one.recycle_tasks, one.recycle_age, one.recycle_rss, one.idle)
    return App(one.python or "", one.interpreter, one.cwd, tuple(sorted(one.env.items())), care)


def command(interpreter: str | None, ours: str) -> list[str]:
    """What starts a Python that calls `main` of a module of ours, and ends with what that returns.

    It speaks with this very spool, whichever the application's environment has, and takes all else
    from there.
    """
    entry = (
        "import os, sys; sys.path[0] = sys.argv.pop(1); import spool; sys.path[0] = os.getcwd(); "
        f"from {ours} import main; sys.exit(main())"
    )
    return [interpreter or sys.executable, "-c", entry, FOLDER]
