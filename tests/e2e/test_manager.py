"""spoold under a service manager: what it says on NOTIFY_SOCKET, and units that systemd can read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.live import ROOT, Live, handler
from tests.e2e.manager import Manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., Live]

UNITS = ROOT / "units"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
LOOSE = 2.5  # exposure as systemd-analyze reckons it, 0 to 10


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.socket.close()


def test_it_tells_when_it_serves_reloads_lives_and_stops(spool_at: Make, manager: Manager) -> None:
    spool = spool_at(handler("a", "env > $NOTES/env; sleep 600"))
    before = ["env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=400000"]
    spool.process = spool.spoold(before=before)
    assert "STATUS=running; 0 run, 0 ready" in manager.hears("READY=1")[1]
    manager.hears("WATCHDOG=1")
    manager.hears("WATCHDOG=1")
    spool.entry(spool.submit("a"), "running")
    manager.hears("STATUS=running; 1 run")
    spool.settings(handler("b", "true"))
    manager.hears("RELOADING=1", "MONOTONIC_USEC=")
    manager.hears("READY=1")
    assert "NOTIFY_SOCKET" not in (spool.notes / "env").read_text()
    spool.signal(signal.SIGTERM)
    told = manager.hears("STOPPING=1")
    assert "EXTEND_TIMEOUT_USEC=80000000" in told  # 30 s to drain, 10 s from TERM to KILL, and some
    spool.signal(signal.SIGTERM)
    assert spool.wait_exit() == 0


def test_in_the_journal_each_line_has_its_level(spool_at: Make, tmp_path: Path) -> None:
    spool = spool_at("colour = 1")
    with (tmp_path / "journal").open("wb") as stream:
        info = os.fstat(stream.fileno())
        for name in (f"{info.st_dev}:{info.st_ino}", "1:1"):
            subprocess.run(
                [sys.executable, "-m", "spoold", "--spool", spool.root], stderr=stream, check=False,
                cwd=ROOT, env={**os.environ, "JOURNAL_STREAM": name},
            )  # fmt: skip
    first, second = (tmp_path / "journal").read_text().splitlines()
    assert second.startswith("spoold: ")
    assert first == f"<3>{second}"


def test_a_manager_that_is_gone_does_no_harm(spool_at: Make, tmp_path: Path) -> None:
    spool = spool_at(handler("a", "true"))
    spool.process = spool.spoold(
        before=["env", f"NOTIFY_SOCKET={tmp_path}/nobody", "WATCHDOG_USEC=100000"]
    )
    spool.entry(spool.submit("a"), "done")
    assert spool.stop() == 0


def test_another_process_s_watchdog_is_not_fed(spool_at: Make, manager: Manager) -> None:
    spool = spool_at(handler("a", "true"))
    env = [f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=1000", "WATCHDOG_PID=1"]
    spool.process = spool.spoold(before=["env", *env])
    manager.hears("READY=1")
    spool.entry(spool.submit("a"), "done")
    assert spool.stop() == 0
    manager.socket.settimeout(0.2)
    try:
        while True:
            assert b"WATCHDOG" not in manager.socket.recv(1 << 16)
    except TimeoutError:
        pass


@needs_systemd
@pytest.mark.parametrize("kind", ["system", "user"])
def test_the_units_are_ones_that_systemd_understands(kind: str, tmp_path: Path) -> None:
    for unit in (UNITS / kind).iterdir():
        text = re.sub(r"(Exec\w+)=\S*spoold", rf"\1={sys.executable} -m spoold", unit.read_text())
        place = tmp_path / (unit.name if unit.suffix != ".conf" else f"spoold.service.d/{unit.name}")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    units = [str(tmp_path / "spoold.service"), str(tmp_path / "spoold.path")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "spoold" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("kind", ["system", "user"])
def test_a_reload_by_systemd_tells_what_has_come_of_it(kind: str) -> None:
    """As `spoold --reload` does, of the spool that the unit serves; HUP alone tells nothing."""
    text = (UNITS / kind / "spoold.service").read_text()
    start, reload = (
        re.search(rf"^{key}=(.*)$", text, re.MULTILINE) for key in ("ExecStart", "ExecReload")
    )
    assert start is not None
    assert reload is not None
    assert reload[1] == f"{start[1]} --reload"


@needs_systemd
def test_the_system_s_service_is_shut_off_from_what_it_does_not_need() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(UNITS / "system/spoold.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"exposure level for spoold.service: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot tell: {done.stderr.strip()[:200]}")
    assert float(found[1]) <= LOOSE


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_users_are_those_that_init_looks_for() -> None:
    from spool import sysinit

    path = UNITS / "sysusers.d/spool.conf"
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {line.split()[1] for line in path.read_text().splitlines() if line[:1] in "ug"}
    assert names == {sysinit.OWNER, sysinit.SUBMIT, sysinit.READ}
