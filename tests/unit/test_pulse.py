"""What a node says of a file server that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spool.init import init
from spoold.sources.neighbours import SECOND
from spoold.sources.pulse import SILENT, Pulse

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LEASE = 180 * SECOND


def test_a_file_server_that_does_not_answer_is_told_of_once_and_when_it_does_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init(str(tmp_path / "q"))
    (tmp_path / "q" / layout.ALIVE).mkdir(exist_ok=True)
    pulse = Pulse(str(tmp_path / "q"), "one", LEASE, lambda: 0)
    pulse.join()
    known = pulse.neighbours
    assert known.fence_at is not None
    begun = known.fence_at
    pulse._tell_silence()
    known.fence_at = begun - known.every_beat - SILENT // 2  # its last beat was so long ago
    pulse._tell_silence()
    assert not caplog.messages
    known.fence_at = begun - known.every_beat - 2 * SILENT
    pulse._tell_silence()
    pulse._tell_silence()
    assert len(caplog.messages) == 1
    assert "q has not answered for 10 s: waiting" in caplog.text
    assert "grace time" in caplog.text
    known.fence_at = begun + known.every_beat
    pulse._tell_silence()
    pulse._tell_silence()
    assert len(caplog.messages) == 2
    assert "answers again" in caplog.messages[1]
    pulse.close()
