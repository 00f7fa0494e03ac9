"""Write the Grafana dashboard spool.json: one row a panel here, so that it can be read and reviewed.

python tools/grafana/make.py            write it beside this file
python tools/grafana/make.py --check    1 where it is not what this file makes
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).with_name("spool.json")
RATE = "[$__rate_interval]"
SELECT = '{instance=~"$instance"}'
# Title, unit, legend, expressions; two panels a row.
PANELS = [
    ("Tasks by state", "short", "{{state}} {{class}}", [f"spool_tasks{SELECT}"]),
    ("Oldest task is due since", "s", "oldest",
     [f"time() - spool_oldest_due_seconds{SELECT}"]),
    ("Throughput", "ops", "{{event}}",
     [('sum by (event) (rate(spool_transitions_total'
      f'{{instance=~"$instance",event=~"submit|claim|succeed"}}{RATE}))')]),
    ("Failures", "ops", "{{task}} {{event}}",
     [('rate(spool_transitions_total'
      f'{{instance=~"$instance",event=~"fail|give_up|lose|poison|expire"}}{RATE})')]),
    ("Wait, 95th percentile", "s", "{{task}}",
     [f"histogram_quantile(0.95, sum by (task, le) (rate(spool_wait_seconds_bucket{SELECT}{RATE})))"]),
    ("Run time, 95th percentile", "s", "{{task}}",
     [f"histogram_quantile(0.95, sum by (task, le) (rate(spool_run_seconds_bucket{SELECT}{RATE})))"]),
    ("Missed deadlines", "ops", "{{task}}", [f"rate(spool_late_seconds_count{SELECT}{RATE})"]),
    ("Unread events", "short", "{{parent}}", [f"spool_outbox_events{SELECT}"]),
    ("Slots and gate", "short", "{{__name__}}",
     [f"spool_{name}{SELECT}" for name in ("slots", "processes", "gate_open", "paused")]),
    ("Sync time, 99th percentile", "s", "sync",
     [f"histogram_quantile(0.99, sum by (le) (rate(spool_sync_seconds_bucket{SELECT}{RATE})))"]),
    ("Refused actions", "ops", "refused", [f"rate(spool_refused_total{SELECT}{RATE})"]),
    ("Groups of errors", "short", "groups", [f"spool_error_groups{SELECT}"]),
]  # fmt: skip


def panel(number: int, title: str, unit: str, legend: str, expressions: list[str]) -> dict:
    targets = [
        {"expr": text, "legendFormat": legend, "refId": chr(65 + i)} for i, text in enumerate(expressions)
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def dashboard() -> dict:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    instance = {
        "name": "instance", "type": "query", "label": "Instance", "multi": True, "includeAll": True,
        "datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2,
        "query": "label_values(spool_running, instance)",
    }  # fmt: skip
    return {
        "title": "spool",
        "uid": "spool",
        "schemaVersion": 39,
        "tags": ["spool"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, instance]},
        "panels": [panel(number, *row) for number, row in enumerate(PANELS)],
    }


def main(words: list[str]) -> int:
    text = json.dumps(dashboard(), indent=2) + "\n"
    if words == ["--check"]:
        return int(FILE.read_text() != text)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
