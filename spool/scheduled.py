"""Schedules that were set by an action, beside those of spool.toml: nodes/schedules.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.errors import Invalid

if TYPE_CHECKING:
    from spool.settings import Recurring

MOST = 1000  # schedules
Tables = dict[str, dict[str, Any]]


def checked(name: str, table: dict[str, Any]) -> Recurring:
    """A schedule from its name and table; Invalid names the key."""
    from spool.settings import schedule_of  # what only submits need not read it

    return schedule_of(name, table)


def _given(table: Any) -> Any:
    """Without null, which once was a value; what is no table is told as broken."""
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if value is not None}


def also(
    known: tuple[Recurring, ...], tables: Tables
) -> tuple[tuple[Recurring, ...], dict[str, Invalid]]:
    """Those of spool.toml, and those set by actions under other names; why some cannot be read."""
    names = {schedule.name for schedule in known}
    found, broken = list(known), {}
    for name, table in tables.items():
        if name not in names:
            try:
                found.append(checked(name, _given(table)))
            except Invalid as problem:  # of a newer spool, by hand, or in a zone not known here
                broken[name] = problem
    return tuple(found), broken
