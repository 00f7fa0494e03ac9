"""A full disk: what is said of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spool.disk import Free
from spool.settings import load
from spoold.loop import FULL, NOT_SHORT, Loop


@pytest.mark.parametrize(
    ("free", "told"),
    [
        (Free(1 << 40, 1 << 30), True),
        (Free(4096, 1 << 30), False),
        (Free(1 << 40, 0), False),
    ],
)
@pytest.mark.parametrize("toml", ["", "min_free_bytes = 0\nmin_free_inodes = 0\n"])
def test_where_the_disk_has_room_the_other_causes_are_named(
    free: Free, toml: str, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop: Any = Loop.__new__(Loop)
    state = SimpleNamespace(settings=load(toml))
    loop.core = SimpleNamespace(
        disk=SimpleNamespace(free=lambda: free), state=state, finish=lambda _now: None, again=False
    )
    loop.manager = SimpleNamespace(step=lambda _now: None)
    told_as: list[str] = []
    extra: dict[str, str] = {}
    loop.status = SimpleNamespace(
        extra=extra, write=lambda _now, *, always: told_as.append(extra["state"])
    )
    monkeypatch.setattr("spoold.loop.time.sleep", lambda _seconds: None)
    loop._wait_for_room("ids/2026-11-21/x: no space")
    assert "ids/2026-11-21/x: no space" in caplog.text
    assert (NOT_SHORT in caplog.text) is told
    assert told_as == [FULL]
    assert not extra
    assert loop.core.again, "what may start is looked at once more"
