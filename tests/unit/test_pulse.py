"""What a node says where its spool does not answer."""

from __future__ import annotations

import logging
import select
import threading
from typing import TYPE_CHECKING

import pytest

from spool import layout, mounts
from spool.init import init
from spool.times import SECOND
from spoold.sources.pulse import SILENT, STILL, Pulse, ticks

if TYPE_CHECKING:
    from pathlib import Path

LEASE = 180 * SECOND
LONG = 20.0  # seconds: how long a test waits for what never takes so long


@pytest.mark.parametrize(
    ("network", "why"), [(True, "waiting; a file server that was rebooted"), (False, STILL)]
)
def test_what_does_not_answer_is_told_of_once_with_what_that_means_and_when_it_does_again(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    network: bool,
    why: str,
) -> None:
    monkeypatch.setattr(mounts.Mount, "network", network)
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
    assert f"q has not answered for 10 s: {why}" in caplog.text
    known.fence_at = begun + known.every_beat
    pulse._tell_silence()
    pulse._tell_silence()
    assert len(caplog.messages) == 2
    assert "answers again" in caplog.messages[1]
    pulse.close()


def test_a_clock_that_is_not_the_file_servers_is_told_of_once_and_when_it_is_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init(str(tmp_path / "q"))
    (tmp_path / "q" / layout.ALIVE).mkdir(exist_ok=True)
    pulse = Pulse(str(tmp_path / "q"), "one", LEASE, lambda: 0)
    pulse.join()
    beat = pulse.neighbours.disk.info(f"{layout.ALIVE}/{pulse.neighbours.beat.name}")
    assert beat is not None
    made = beat.ctime_us
    for late in (0, SECOND // 2):  # how long it took says nothing
        pulse._measure(made - late, made + late)
        assert pulse.offset == 0
    assert not caplog.messages
    for _ in range(2):
        pulse._measure(made + 30 * SECOND, made + 31 * SECOND)
        assert pulse.offset == -30 * SECOND
    assert caplog.messages == ["the clock is 30 s ahead of that of the file server; see spool-cluster(7)"]
    pulse._measure(made, made)
    assert caplog.messages[1:] == ["the clock agrees with that of the file server again"]
    pulse.close()


def test_handlers_are_killed_though_nobody_takes_what_is_said(tmp_path: Path) -> None:
    init(str(tmp_path / "q"))
    (tmp_path / "q" / layout.ALIVE).mkdir(exist_ok=True)
    killed, saying, go = threading.Semaphore(0), threading.Event(), threading.Event()
    pulse = Pulse(str(tmp_path / "q"), "one", LEASE, killed.release)
    pulse.join()

    class Hung(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            saying.set()
            go.wait()

    hung = Hung()
    logging.getLogger("spoold").addHandler(hung)
    pulse.neighbours.fence_at = ticks() + SECOND // 4  # it has been silent for long
    for work in (pulse._watch, pulse._say):
        pulse._begin(work)
    try:
        assert saying.wait(LONG)
        for _ in range(3):  # what was about to start as well
            assert killed.acquire(timeout=LONG)
        go.set()
        assert select.select([pulse.fd], [], [], LONG)[0]  # the loop is woken
    finally:
        logging.getLogger("spoold").removeHandler(hung)
        go.set()
        pulse.close()
