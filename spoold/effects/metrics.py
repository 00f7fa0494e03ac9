"""What is measured, in the text format of Prometheus, for a collector of text files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spool import layout
from spoold.core.meter import BOUNDS, Histogram
from spoold.effects.fenced import TimedDisk
from spoold.effects.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from spool.disk import Disk
    from spool.shape import Shape
    from spoold.core.state import State
    from spoold.core.values import Now
    from spoold.effects.census import Census

EVERY = 15_000_000  # us between two files
FIRST = 1_000_000  # the same before all tasks were counted once
PARENTS = 100  # outboxes told apart
COUNTS = {
    "taken": "Tasks taken in since the daemon started.",
    "started": "Attempts started since the daemon started.",
    "done": "Tasks done since the daemon started.",
    "failed": "Tasks failed for good since the daemon started.",
    "retried": "Attempts that are followed by another one since the daemon started.",
    "refused": "Actions refused since the daemon started.",
    "gate_closed": "How often admission has begun to hold back.",
    "gate_opened": "How often admission has ceased to hold back.",
    "gate_passed": "Tasks that passed a closed gate because of their deadline.",
    "looks": "How often the machine was looked at.",
}
Sample = tuple[str, "Mapping[str, str]", float]


class Metrics:
    """Writes the node's file when something has changed, every 15 s at most; a chore of the loop."""

    def __init__(self, disk: Disk, state: State, census: Census, started: int) -> None:
        self.disk = disk
        self.state = state
        self.census = census
        self.started = started
        self._next = 0
        self._counted: Shape | None = None  # the count of all tasks that was written last

    def due(self, now: Now) -> int | None:
        """In how many us the file is to be written."""
        changed = self.state.meter.changed or self.census.last is not self._counted
        return max(0, self._next - now.mono) if changed else None

    def step(self, now: Now) -> None:
        """Replace the file if it is out of date."""
        if self.due(now) == 0:
            self.write(now)

    def write(self, now: Now) -> None:
        """Replace it, and what a collector takes."""
        self.state.meter.changed, self._counted = False, self.census.last
        self._next = now.mono + (FIRST if self._counted is None else EVERY)
        text = self.text(now).encode()
        for path in (layout.metrics(self.state.node), layout.COLLECTED):
            rewrite(self.disk, path, text)

    def text(self, now: Now) -> str:
        """The whole file."""
        return "".join(self._families(now))

    def _families(self, now: Now) -> Iterator[str]:
        state, meter = self.state, self.state.meter
        yield _gauge("spool_up_since_seconds", "When the daemon started, Unix time.", self.started / 1e6)
        yield _gauge("spool_written_seconds", "When this file was written, Unix time.", now.wall / 1e6)
        yield from self._standing()
        yield _gauge("spool_running", "Tasks that run on this node.", len(state.runs))
        yield _gauge("spool_processes", "Handler processes that run.", state.processes)
        yield _gauge("spool_slots", "Handler processes that may run at once.", state.limit)
        yield _gauge("spool_paused", "Whether nothing at all may start.", bool(state.paused()))
        yield _gauge("spool_gate_open", "Whether admission lets tasks start.", state.gate.open)
        for name, text in COUNTS.items():
            yield _family(f"spool_{name}_total", "counter", text, [("", {}, state.counts[name])])
        rows = [
            ("", {"task": task, "event": event}, float(n))
            for (task, event), n in sorted(meter.transitions.items())
        ]
        yield _family("spool_transitions_total", "counter", "Transitions by task name and event.", rows)
        yield _histograms("spool_wait_seconds", "From a task's time to its start.", meter.waits)
        yield _histograms("spool_run_seconds", "How long attempts took.", meter.runs)
        yield _histograms("spool_late_seconds", "From a missed deadline to the end.", meter.late)
        rows = [("", {"task": task}, float(n)) for task, n in sorted(meter.met.items())]
        yield _family("spool_deadlines_met_total", "counter", "Ended before their deadline.", rows)
        unread = sorted(state.parents.unread.items(), key=lambda row: -row[1])[:PARENTS]
        rows = [("", {"parent": parent}, float(n)) for parent, n in sorted(unread)]
        yield _family("spool_outbox_events", "gauge", "Unread events of a parent, at most.", rows)
        yield _gauge("spool_error_groups", "Groups of errors that are known.", len(state.groups.table))
        if isinstance(self.disk, TimedDisk):
            yield _family(
                "spool_sync_seconds", "histogram", "How long syncs took.", _rows({}, self.disk.syncs)
            )

    def _standing(self) -> Iterator[str]:
        found = self.census.last
        if found is None:
            return
        rows: list[Sample] = []
        for key, count in found.counts.items():
            state, _, prio = key.partition("/")
            rows.append(("", {"state": state, "class": prio}, count))
        yield _family("spool_tasks", "gauge", "Tasks by state, those pending by class.", rows)
        if found.oldest is not None:  # 0 would be very old
            since = found.oldest[0] / 1e6
            yield _gauge(
                "spool_oldest_due_seconds", "Since when the oldest task is due, Unix time.", since
            )
        yield _gauge("spool_counted_seconds", "When tasks were last counted, Unix time.", found.at / 1e6)


def _gauge(name: str, text: str, value: float) -> str:
    return _family(name, "gauge", text, [("", {}, value)])


def _histograms(name: str, text: str, by_task: Mapping[str, Histogram]) -> str:
    rows = [row for task, found in sorted(by_task.items()) for row in _rows({"task": task}, found)]
    return _family(name, "histogram", text, rows)


def _rows(labels: Mapping[str, str], found: Histogram) -> list[Sample]:
    rows: list[Sample] = []
    total = 0
    for bound, count in zip((*BOUNDS, "+Inf"), found.buckets, strict=True):
        total += count
        rows.append(("_bucket", {**labels, "le": str(bound)}, total))
    return [*rows, ("_sum", labels, found.total), ("_count", labels, total)]


def _family(name: str, kind: str, text: str, rows: Iterable[Sample]) -> str:
    """One metric with its samples: (suffix, labels, value)."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in rows:
        inner = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items() if label)
        lines.append(f"{name}{suffix}{f'{{{inner}}}' if inner else ''} {float(value)!r}")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
