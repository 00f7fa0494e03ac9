"""The short form of `make chaos`: daemons, keepers, workers and handlers are killed at any instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.chaos import Chaos

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("nodes", [1, 2])
def test_nothing_is_lost_or_done_twice_whatever_is_killed(tmp_path: Path, nodes: int) -> None:
    chaos = Chaos(tmp_path, seed=nodes, nodes=nodes)
    chaos.run(6)
    assert chaos.acknowledged
    assert chaos.wrong() == []
