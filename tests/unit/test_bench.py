"""The benchmark runs and says what it says it says; how fast is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
