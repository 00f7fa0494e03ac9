"""Python functions as tasks: `@task` marks them, `submit` sends them off, `current()` tells inside."""

from __future__ import annotations

from spool.tasks.context import Context, current
from spool.tasks.define import Bound, Task, task, use
from spool.tasks.outcomes import Cancelled, Fail, Retry, Snooze, SoftTimeout

__all__ = [
    "Bound",
    "Cancelled",
    "Context",
    "Fail",
    "Retry",
    "Snooze",
    "SoftTimeout",
    "Task",
    "current",
    "task",
    "use",
]
