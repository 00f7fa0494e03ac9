"""The pytest plugin: `spool`, a throw-away spool run in the test, and `spool_live`, one with a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spool.testing.live import Live
    from spool.testing.tester import Tester


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Tester]:
    """A spool of this test's own; tasks it submits go there. See spool.testing."""
    from spool import tasks
    from spool.testing.tester import Tester

    made = Tester(tmp_path)
    tasks.use(made.spool)
    try:
        yield made
    finally:
        tasks.use(None)
        made.close()


@pytest.fixture
def spool_live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """`spool_live("myapp.tasks")` is a spool with the real daemon, and workers of this module."""
    from spool import tasks
    from spool.testing.live import Live

    made: list[Live] = []

    def make(module: str, toml: str = "") -> Live:
        made.append(Live(tmp_path / f"{len(made)}", module, toml))
        tasks.use(made[-1].spool)
        return made[-1]

    try:
        yield make
    finally:
        tasks.use(None)
        for live in made:
            live.close()
