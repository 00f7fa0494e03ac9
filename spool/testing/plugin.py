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
    """A spool of this test's own; tasks it submits go there, and `Spool()` is it. See spool.testing."""
    from spool.tasks.define import using
    from spool.testing.tester import Tester

    made = Tester(tmp_path)
    with pytest.MonkeyPatch.context() as patch, using(made.spool):
        patch.setenv("SPOOL_DIR", made.path)
        yield made
    made.close()


@pytest.fixture
def spool_live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """`spool_live("myapp.tasks")` is a spool with the real daemon, and workers of this module."""
    from spool import tasks
    from spool.tasks.define import using
    from spool.testing.live import Live

    made: list[Live] = []

    with pytest.MonkeyPatch.context() as patch, using(None):
        patch.setenv("SPOOL_DIR", str(tmp_path / "0" / "live"))  # nobody else's, also before it is made

        def make(module: str, toml: str = "") -> Live:
            made.append(Live(tmp_path / f"{len(made)}", module, toml))
            tasks.use(made[-1].spool)
            patch.setenv("SPOOL_DIR", made[-1].path)
            return made[-1]

        yield make
    for live in made:
        live.close()
