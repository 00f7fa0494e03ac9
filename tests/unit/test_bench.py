"""The benchmark runs and says what it says it says; how fast is no matter here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from spool.command.main import main
from tests.e2e.live import until

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tools" / "bench" / "run.py"
FIELDS = {"group", "name", "unit", "median", "min", "max", "repetitions", "ratio"}


def test_a_quick_run_has_every_figure_and_leaves_nothing_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, RUN, "--quick", "--json", "--dir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert not os.listdir(tmp_path)
    found = json.loads(done.stdout)
    assert found["quick"] is True
    assert {"date", "kernel", "cpus", "file_system", "python", "load", "load_after"} <= found[
        "environment"
    ].keys()
    rows = found["figures"]
    for row in rows:
        assert row.keys() == FIELDS
        assert 0 <= row["min"] <= row["median"] <= row["max"]
        assert (row["ratio"] is not None) == (row["unit"] == "us")
    names = {(row["group"], row["name"]) for row in rows}
    assert len(names) == len(rows)
    assert {group for group, _ in names} == {
        "raw",
        "latency",
        "throughput",
        "submit",
        "waiting",
        "killed",
    }
    for durability in ("durable", "relaxed"):
        assert {
            ("latency", f"drop to ready, {durability}, p50"),
            ("latency", f"drop to start of exec, {durability}, p99"),
            ("throughput", f"exec of /bin/true, {durability}"),
            ("throughput", f"notify, ack, done, {durability}"),
            ("submit", f"one by one, {durability}"),
            ("submit", f"100 in a batch, {durability}"),
        } <= names


def test_the_command_tells_what_the_disk_and_a_spool_on_it_can_do(tmp_path, capsys):
    assert main(["bench", "--quick", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert not os.listdir(tmp_path)
    for words in ("fsync of a new file", "drop to ready, durable", "100 in a batch", "programs an hour"):
        assert words in told


def test_who_ends_it_by_a_signal_finds_nothing_left_behind(tmp_path):
    process = subprocess.Popen([sys.executable, "-m", "spool", "bench", tmp_path], cwd=ROOT)
    until(lambda: any(tmp_path.glob("*/*/nodes/bench.json")), "a daemon serves")
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not os.listdir(tmp_path)
    assert str(tmp_path).encode() not in b"".join(map(cmdline, os.listdir("/proc")))


def cmdline(name):
    try:
        return Path(f"/proc/{name}/cmdline").read_bytes()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return b""


def test_a_place_that_is_too_small_is_refused_with_what_it_lacks(tmp_path, monkeypatch, capsys):
    small = os.statvfs_result((4096, 4096, 100, 10, 10, 1000, 5, 5, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    assert main(["bench", "--quick", str(tmp_path)]) != 0
    assert "5 free inodes" in capsys.readouterr().err
    assert not os.listdir(tmp_path)
