"""What a start reads of the journal for its rates: what still counts, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from spool import layout
from spool.names import DAY_US, Entry, new_id
from spool.settings import load
from spool.times import SECOND, format_utc
from spoold.sources.claims import recent

if TYPE_CHECKING:
    from spool.disk import RealDisk

NOON = 1_795_262_400_000_000
HANDLERS = load('[handlers.tea]\nexec = ["true"]\nrate = "1/1s"\n')


def started(disk: RealDisk, at: int) -> None:
    entry = Entry(time=at, id=new_id(at), task="tea", prio="medium", base="medium")
    line = {"at": format_utc(at), "event": "claim", "id": entry.id, "task": "tea"}
    line["entry"] = layout.running("n", entry)
    disk.make_dir("journal/n")
    disk.append(layout.journal("n", at), orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


@pytest.mark.parametrize(
    ("after", "since", "known"),
    [
        (NOON - 10 * SECOND, NOON - 10 * SECOND, 1),
        (NOON - 3600 * SECOND, NOON - 3600 * SECOND, 2),
        (NOON - DAY_US, NOON - DAY_US, 3),
        (NOON - 9 * DAY_US, NOON - DAY_US - DAY_US // 2, 4),  # the two days that are read
    ],
)
def test_starts_that_count_no_more_are_not_looked_at(
    disk: RealDisk, after: int, since: int, known: int
) -> None:
    moments = [NOON - ago for ago in (DAY_US + SECOND, DAY_US - SECOND, 60 * SECOND, SECOND)]
    for at in moments:
        started(disk, at)
    found = recent(disk, "n", NOON, after, HANDLERS.handler_for)
    assert found == (since, [(at, "tea", "") for at in moments[-known:]])
