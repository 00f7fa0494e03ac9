"""The three settings a client obeys, read without a TOML parser where spool.toml leaves them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool import layout

if TYPE_CHECKING:
    from spool.disk import Disk

DURABLE, RELAXED = "durable", "relaxed"
MAX_ACTION_BYTES = 1 << 20
_KEYS = (b"durability", b"max_action_bytes", b"timezone")
_DEFAULTS = DURABLE, MAX_ACTION_BYTES, ""


def client_settings(disk: Disk) -> tuple[str, int, str]:
    """(durability, max_action_bytes, timezone) as spool.toml says; the defaults where it cannot be read.

    A writer on a shared machine may not be allowed to read it, and a broken file is for its owner
    to mend: neither stops a submission.
    """
    try:
        data = disk.read(layout.SETTINGS, 1 << 20)
    except OSError:
        return _DEFAULTS
    if not any(key in line for line in data.splitlines() for key in _KEYS if line.lstrip()[:1] != b"#"):
        return _DEFAULTS
    return _parsed(data)


def _parsed(data: bytes) -> tuple[str, int, str]:
    import tomllib

    from spool.knobs import parse_size

    try:
        table: dict[str, Any] = tomllib.loads(data.decode())
        size = parse_size(table.get("max_action_bytes", MAX_ACTION_BYTES))
    except (ValueError, RecursionError):
        return _DEFAULTS
    relaxed = table.get("durability") == RELAXED
    return (RELAXED if relaxed else DURABLE), size, str(table.get("timezone", ""))
