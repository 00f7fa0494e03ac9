"""A live spool for every test that asks for one, looked over when the test is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import Live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def spool_at(tmp_path: Path) -> Iterator[Callable[[str], Live]]:
    """Make a spool with this spool.toml, its daemon not started; at most one a test."""
    made: list[Live] = []

    def make(toml: str = "") -> Live:
        made.append(Live(tmp_path, toml))
        return made[-1]

    yield make
    for live in made:
        live.close()


@pytest.fixture
def live(spool_at: Callable[[str], Live]) -> Callable[[str], Live]:
    """Make a spool with this spool.toml and start its daemon."""
    return lambda toml="": spool_at(toml).start()
