"""Schedules that actions have set, as they are kept."""

from __future__ import annotations

from spool import scheduled


def test_a_null_that_an_older_spool_has_kept_is_no_value() -> None:
    table = {"task": "note", "every": "@daily", "priority": None, "notify": None}
    (found,), broken = scheduled.also((), {"nightly": table})
    assert (found.name, found.priority, broken) == ("nightly", None, {})


def test_what_cannot_be_read_is_told_and_the_others_stand() -> None:
    tables = {"good": {"task": "note", "every": "@daily"}, "bad": {"task": "note", "every": "often"}}
    found, broken = scheduled.also((), tables)
    assert [one.name for one in found] == ["good"]
    assert list(broken) == ["bad"]
