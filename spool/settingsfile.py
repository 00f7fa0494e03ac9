"""The settings of a spool, from its spool.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.disk import Missing, NotRegular, TooLarge
from spool.errors import ConfigError
from spool.settings import Settings, load

if TYPE_CHECKING:
    from spool.disk import Disk

LIMIT = 1 << 20  # bytes


def read(disk: Disk, *, path: str = layout.SETTINGS) -> Settings:
    """What it says, the defaults where there is none; ConfigError, or OSError where it may not be read.

    `path` is how an error names it.
    """
    try:
        text = disk.read(layout.SETTINGS, LIMIT).decode()
    except Missing:
        text = ""
    except UnicodeDecodeError as problem:
        raise ConfigError(path, "", None, f"must be UTF-8: {problem}") from None
    except (NotRegular, TooLarge) as problem:
        raise ConfigError(path, "", None, f"cannot be read: {problem.strerror}") from None
    return load(text, path=path)
