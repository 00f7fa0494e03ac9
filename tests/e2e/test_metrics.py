"""What is measured and counted: the file of metrics, the shape of the queue, the figures of the status."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from spool import Spool, look
from spool.disk import RealDisk
from spool.shape import LABELS
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Make = Callable[..., Live]

TOML = (
    handler("good", "true") + handler("bad", "echo no; exit 65") + handler("slow", "sleep 2; true")
)  # the last one is late


def families(spool: Live) -> dict[str, Any]:
    text = (spool.root / "nodes" / "metrics.prom").read_text()
    return {one.name: one for one in text_string_to_metric_families(text)}


def value(spool: Live, family: str, suffix: str = "", **labels: str) -> float | None:
    found = families(spool).get(family)
    for one in found.samples if found else ():
        if one.name == f"{family}{suffix}" and labels.items() <= one.labels.items():
            return float(one.value)
    return None


def test_the_file_of_metrics_is_what_prometheus_reads(live: Make) -> None:
    spool = live(TOML)
    for task_id in spool.submit_all([{"task": "good"} for _ in range(3)]):
        spool.entry(task_id, "done")
    spool.entry(spool.submit("bad"), "failed")
    spool.entry(spool.submit("slow", deadline="+1s"), "done")
    spool.taken(spool.drop({"task": "good", "prioritty": 1}))
    spool.stop()
    found = families(spool)
    for name, family in found.items():
        assert family.type in {"gauge", "counter", "histogram"}, name
        assert family.documentation, name
        keys = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
        assert len(keys) == len(set(keys)), f"{name} has a sample twice"
        if family.type == "histogram":
            _cumulative(family.samples)
    assert value(spool, "spool_transitions", "_total", task="good", event="succeed") == 3
    assert value(spool, "spool_transitions", "_total", task="bad", event="give_up") == 1
    assert value(spool, "spool_run_seconds", "_count", task="good") == 3
    assert value(spool, "spool_wait_seconds", "_count", task="bad") == 1
    assert value(spool, "spool_late_seconds", "_count", task="slow") == 1
    assert value(spool, "spool_refused", "_total") == 1
    assert (value(spool, "spool_sync_seconds", "_count") or 0) > 3
    assert value(spool, "spool_outbox_events", parent="default") is not None


def _cumulative(samples: list[Any]) -> None:
    """Buckets grow, end at +Inf, and agree with the count."""
    by_labels: dict[Any, list[Any]] = {}
    for one in samples:
        key = tuple(sorted((k, v) for k, v in one.labels.items() if k != "le"))
        by_labels.setdefault(key, []).append(one)
    for rows in by_labels.values():
        buckets = [one for one in rows if one.name.endswith("_bucket")]
        assert [one.value for one in buckets] == sorted(one.value for one in buckets)
        assert buckets[-1].labels["le"] == "+Inf"
        (count,) = [one.value for one in rows if one.name.endswith("_count")]
        assert buckets[-1].value == count


def test_tasks_are_counted_by_state_and_class(live: Make) -> None:
    spool = live(TOML)
    spool.submit_all([{"task": "good", "at": "+1h", "priority": "low"} for _ in range(7)])
    counted = spool.root / "nodes" / f"{spool.node}.shape"
    until(
        lambda: counted.exists() and json.loads(counted.read_bytes())["counts"]["pending/low"] == 7, "7"
    )
    until(
        lambda: value(spool, "spool_tasks", state="pending", **{"class": "low"}) == 7,
        "the metric says so",
    )
    assert "spool_oldest_due_seconds" not in families(spool)  # what is left out raises no alarm


def test_every_metric_of_the_dashboard_is_one_we_write(live: Make) -> None:
    spool = live(TOML)
    spool.entry(spool.submit("good", deadline="+1h"), "done")
    spool.entry(spool.submit("slow", deadline="+1s"), "done")
    spool.do({"action": "pause"})
    spool.submit("good")
    counted = spool.root / "nodes" / f"{spool.node}.shape"
    until(
        lambda: counted.exists() and json.loads(counted.read_bytes())["oldest"],
        "one that is due is counted",
    )
    spool.stop()
    known = {one.name for family in families(spool).values() for one in family.samples}
    path = ROOT / "tools" / "grafana" / "spool.json"
    board = json.loads(path.read_text())
    used = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            used.update(re.findall(r"\bspool_\w+", target["expr"]))
    assert used <= known, used - known
    spec = importlib.util.spec_from_file_location("make", path.with_name("make.py"))
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.main(["--check"]) == 0, "run tools/grafana/make.py"


def test_the_shape_says_for_how_long_what_waits_has_been_due(live: Make) -> None:
    spool = live("concurrency = 1\n" + TOML)
    spool.end(spool.submit("good"))
    spool.do({"action": "pause"})
    spool.submit_all([{"task": "good", "at": "+1h"} for _ in range(3)])
    old = [{"task": "bad", "at": "2026-01-01T00:00:00Z", "priority": "high"} for _ in range(2)]
    spool.submit_all(old)
    until(lambda: len(list(spool.paths("pending"))) == 5, "all wait")
    with Spool(spool.root) as client:
        found = client.shape()
        assert found["tasks"]["good"]["medium"] == [3] + [0] * len(LABELS)
        assert found["tasks"]["bad"]["high"] == [0] * len(LABELS) + [2]
        assert found["oldest"]["task"] == "bad"
        assert found["counts"]["done"] == 1
        status = client.status()
        assert (status["counts"]["pending/high"], status["counted_at"]) == (2, None)


def test_a_long_queue_is_not_counted_while_somebody_waits(
    live: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = live(TOML)
    spool.submit_all([{"task": "good", "at": "+1h"} for _ in range(300)])
    counted = spool.root / "nodes" / f"{spool.node}.shape"

    def known() -> bool:
        return counted.exists() and json.loads(counted.read_bytes())["counts"]["pending/medium"] == 300

    until(known, "the daemon has counted them")
    monkeypatch.setattr(look, "MANY", 100)
    monkeypatch.delattr(RealDisk, "slices")  # no directory of tasks is read
    with Spool(spool.root) as client:
        status = client.status()
        assert status["counts"]["pending/medium"] == 300
        assert status["counted_at"] == client.shape()["at"] == json.loads(counted.read_bytes())["at"]


def test_the_status_tells_the_last_minutes(live: Make) -> None:
    spool = live(TOML)
    for task in ("good", "good", "bad"):
        task_id = spool.submit(task)
        spool.entry(task_id, "failed" if task == "bad" else "done")
    wanted = {"taken": 3, "started": 3, "done": 2, "failed": 1, "failures": 1}
    until(lambda: (spool.status_now() or {}).get("lately") == wanted, "it is told")
