"""What is moved to corrupt/, and what must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spool.disk import RealDisk
from spool.init import init
from spoold.effects.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = "done/2026-11-22"


@pytest.mark.parametrize("before", ["write", "move"])
def test_a_directory_that_another_node_has_made_of_a_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    root = tmp_path / "s"
    init(str(root))
    (root / DAY).write_text("x")
    disk = RealDisk(str(root))
    real: Callable[..., None] = getattr(disk, before)

    def late(*args: object) -> None:
        monkeypatch.setattr(disk, before, real)
        Store(RealDisk(str(root)), "other", durable=False)._ensure(None, f"{DAY}/x")
        (root / DAY / "task").touch()
        real(*args)

    monkeypatch.setattr(disk, before, late)
    Store(disk, "n", durable=False)._ensure(None, f"{DAY}/x")
    assert (root / DAY / "task").exists()
    kept = {path.name: path.read_text() for path in (root / "corrupt").iterdir()}
    assert [text for name, text in kept.items() if "reason" not in name] == ["x"]
    assert len(kept) == 2
