"""How much a round takes from incoming/: less on a slow disk, so that what has ended has its turn."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from spool import layout, settings
from spool.disk import Info, RealDisk, Unreadable
from spool.init import init
from spoold.loop import clock
from spoold.sources.intake import LEAST, LONG, Intake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES, EACH = 60, 10


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    init(str(tmp_path / "q"))
    for number in range(FILES):
        text = json.dumps({"tasks": [{"task": "a", "args": [number]}] * EACH})
        (tmp_path / "q" / layout.INCOMING / f"f{number:03}.json").write_text(text)
    disk = RealDisk(str(tmp_path / "q"))
    yield Intake(disk, settings.load(""), ZoneInfo("UTC"))
    disk.close()


def rounds(intake: Intake, us: int) -> list[int]:
    """How many files each round brought, where each took so long; what was brought is gone."""
    found, names = [], []
    while intake.busy:
        events = intake.look(clock())
        for event in events:
            intake.disk.remove(event.source.path)
            names.append(event.source.path)
        found.append(len(events))
        intake.took(us)
    assert sorted(names) == sorted(set(names))
    assert len(names) == FILES
    return found


def test_on_a_quick_disk_a_round_takes_all_there_is(intake: Intake) -> None:
    assert rounds(intake, LONG // 8)[0] == FILES


def test_rounds_that_take_long_take_less_and_less_and_never_nothing(intake: Intake) -> None:
    intake.look(clock())
    intake.took(2 * LONG)  # all of it
    intake.ring()
    found = rounds(intake, 2 * LONG)
    assert found[0] == FILES // 2
    assert found[-1] == -(-LEAST // EACH)
    assert min(found) > 0


def test_rounds_grow_again_where_the_disk_has_become_quick(intake: Intake) -> None:
    for _ in range(9):
        intake.look(clock())
        intake.took(2 * LONG)
        intake.ring()
    found = rounds(intake, LONG // 8)
    assert found[0] == -(-LEAST // EACH)
    assert max(found[:-1]) > 8 * found[0]


def test_a_round_that_took_nothing_says_nothing_of_the_disk(intake: Intake) -> None:
    for _ in range(9):
        intake.took(9 * LONG)
    assert len(intake.look(clock())) == FILES


def test_a_name_that_the_disk_has_lost_is_left_alone_and_said_once(
    intake: Intake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Rotten(RealDisk):
        def info(self, path: str) -> Info | None:
            if path.endswith("/f000.json"):
                raise Unreadable(errno.EUCLEAN, "cannot be read", path)
            return super().info(path)

    whole, intake.disk = intake.disk, Rotten(str(tmp_path / "q"))
    for _ in range(2):
        intake.ring()
        assert len(intake.look(clock())) == FILES - 1
    assert len(caplog.records) == 1
    intake.disk.close()
    intake.disk = whole
