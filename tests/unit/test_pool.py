"""A pool of workers, whatever becomes of one of them: no task is lost, and the daemon goes on."""

from __future__ import annotations

import errno
import os
import resource
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from spool import layout
from spool.names import Entry, id_from
from spool.settings import load
from spool.worker.line import Line
from spoold.core import order
from spoold.core.answers import registered
from spoold.core.state import State
from spoold.core.values import (
    NO_CODE,
    Answered,
    Broken,
    Kill,
    NotStarted,
    Registered,
    Returned,
    Scan,
    Start,
)
from spoold.effects import reports
from spoold.effects.handlers import Handlers
from spoold.effects.pool import PATIENCE, Pool
from spoold.effects.worker import CHUNK, CODE, DEATH, KEEPER, MACHINE, SPARE
from spoold.effects.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from spoold.core.values import Event

READY = {"ev": "ready", "takes": {"t.run": [1]}, "asyncs": [], "said": ""}
NEWER = {**READY, "takes": {"t.run": [1], "t.new": [1]}}
SECOND = 1_000_000
LOST = "the keeper of the handlers died"
NOW = 1_795_240_000_000_000


class Keeper:
    """In place of the runner: the far end of the line of each worker, and who was killed."""

    lease = begun = None

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.killed: list[str] = []

    def start(self, name: str, *rest: Any) -> None:
        self.lines[name] = Line(rest[-1])

    def flush(self) -> None:
        pass

    def kill(self, name: str, _grace: float) -> None:
        self.killed.append(name)

    def begin(self, ready: dict[str, Any] = READY, name: str = "") -> str:
        """The newest worker, or that of this name, hears who it is and says that it is ready."""
        name = name or list(self.lines)[-1]
        line = self.lines[name]
        line.receive(wait=True)
        line.send(ready)
        return name


def handler(**more: Any) -> Any:
    common = {"pattern": "t.*", "python": "app", "interpreter": None, "cwd": None, "env": {}}
    rule = {"recycle_tasks": 100, "recycle_rss": 1 << 40, "recycle_age": 1 << 60, "async_tasks": 3}
    return SimpleNamespace(**{**common, **rule, "idle": SECOND, **more})


def settings(*handlers: Any) -> Any:
    return SimpleNamespace(
        handlers={one.pattern: one for one in handlers},
        log_limit=1 << 20,
        result_limit=1 << 26,
        timezone="",
    )


def start(number: int, of: Any, ahead: int = 0) -> Start:
    entry = Entry(time=number, id=id_from(NOW + number * 1000, bytes(10)), task="t.run", prio="medium")
    task: Any = SimpleNamespace(
        version=None, args=number, meta={}, trace=None, recurring=None, after=(), deadline=None
    )
    return Start(entry, task, of, ahead, order.rank(entry))


def end(of: Start, **more: Any) -> dict[str, Any]:
    facts = {"seconds": 0.1, "cpu": 0.1, "peak_rss": 1, "log": None}
    said = {"ev": "end", "id": of.entry.id, "attempt": of.entry.attempt, "outcome": "done"}
    return {**said, "began": 0, "facts": facts, "recycle": False, **more}


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    found = Keeper()
    yield found
    for line in found.lines.values():
        line.close()


@pytest.fixture
def pool(keeper: Keeper, tmp_path: Path) -> Iterator[Pool]:
    os.makedirs(tmp_path / layout.RUNNING / "n")
    one = handler()
    found = Pool(
        SimpleNamespace(module="app", interpreter=None, cwd=None, env=()),  # type: ignore[arg-type]
        [one],
        keeper,  # type: ignore[arg-type]
        str(tmp_path),
        "n",
        {"HOME": "/"},
        settings(one),
        lambda _: None,
    )
    yield found
    found.forget()


def answers(events: list[Event]) -> list[Answered]:
    return [event for event in events if isinstance(event, Answered)]


def hear(pool: Pool, now: int = 0) -> list[Event]:
    return [event for worker in list(pool.workers.values()) for event in pool.heard(worker, now)]


def coming(pool: Pool, keeper: Keeper) -> tuple[str, Start]:
    """The only worker, which does not listen yet, and the task that waits for it."""
    one = start(1, pool.handlers[0])
    pool.start(one)
    pool.feed(0)
    (name,) = keeper.lines
    return name, one


def busy(pool: Pool, keeper: Keeper) -> tuple[str, Start]:
    """The only worker, which has begun a task."""
    name, one = coming(pool, keeper)
    keeper.begin()
    hear(pool)
    assert keeper.lines[name].turn(wait=True) == 1
    return name, one


def test_a_task_that_waits_for_a_worker_goes_back_when_its_application_changes(
    keeper: Keeper, tmp_path: Path
) -> None:
    old, new = handler(), handler(env={"PYTHONPATH": "/srv"})
    workers = Workers(keeper, str(tmp_path), "n", {"HOME": "/"})  # type: ignore[arg-type]
    workers.configure(settings(old))
    name = keeper.begin()
    keeper.lines[name].send({"ev": "broken", "error": {"type": "E", "message": "m"}})
    workers.died(name, "exit 1", "")
    one = start(1, old)
    workers.start(one)  # it waits until the import is tried again
    workers.flush()
    assert len(keeper.lines) == 1
    workers.configure(settings(new))
    assert Returned(one.entry.id, one.entry.attempt) in workers.events()
    workers.close()


@pytest.mark.parametrize("name", ["async_tasks", "recycle_tasks", "recycle_age", "recycle_rss", "idle"])
def test_each_handler_has_workers_that_do_as_it_says_of_them(
    name: str, keeper: Keeper, tmp_path: Path
) -> None:
    one, same = handler(pattern="a"), handler(pattern="b")
    other = handler(pattern="c", **{name: getattr(one, name) + 1})
    workers = Workers(keeper, str(tmp_path), "n", {"HOME": "/"})  # type: ignore[arg-type]
    workers.configure(settings(one, same, other))
    assert [row["handlers"] for row in workers.content()] == [["a", "b"], ["c"]]
    workers.close()


def test_what_waits_for_a_worker_that_the_machine_cannot_start_has_not_failed(
    pool: Pool, keeper: Keeper
) -> None:
    name, one = coming(pool, keeper)
    (event,) = pool.died(name, "Resource temporarily unavailable", "", 0, MACHINE)
    assert event == NotStarted(
        one.entry.id,
        one.entry.attempt,
        "the worker for app did not start: Resource temporarily unavailable",
        full=True,
    )


@pytest.mark.parametrize(
    ("number", "fault"),
    [(errno.ETIME, DEATH), (errno.EAGAIN, MACHINE), (errno.ENOENT, CODE), (None, CODE)],
)
def test_a_worker_that_cannot_be_started_is_the_fault_of_what_kept_it_from_that(
    number: int | None, fault: str
) -> None:
    """ETIME: the lease of the node was over, and its tasks are lost, as those of a dead one."""
    said = reports.NotStarted(key="worker", errno=number, error="why")
    runner = SimpleNamespace(fileno=lambda: 3, due=lambda: None, events=lambda: [said])
    died: list[tuple[str, ...]] = []
    workers = SimpleNamespace(events=list, died=lambda *all_of_it: died.append(all_of_it) or [])
    epoll = SimpleNamespace(poll=lambda _: [(3, 1)])
    Handlers.events(SimpleNamespace(_epoll=epoll, _runner=runner, workers=workers))  # type: ignore[arg-type]
    assert died == [("worker", "why", "", fault)]


def test_what_waits_for_a_worker_that_is_killed_as_it_imports_is_lost_with_it(
    pool: Pool, keeper: Keeper
) -> None:
    name, _ = coming(pool, keeper)
    event, closed = pool.died(name, "signal 9 (SIGKILL)", "", 0, DEATH)
    assert isinstance(event, Answered)
    assert (event.outcome, event.why) == ("crashed", NO_CODE)
    assert event.error is not None
    assert event.error["message"] == "the worker for app did not start: signal 9 (SIGKILL)"
    assert isinstance(closed, Broken)
    assert closed.until == SECOND  # it is tried again then, and ever more seldom


def test_what_waits_for_a_worker_that_dies_with_the_keeper_waits_for_another(
    pool: Pool, keeper: Keeper
) -> None:
    name, _ = coming(pool, keeper)
    assert not pool.died(name, LOST, "", 1, KEEPER)
    assert len(keeper.lines) == 2
    keeper.begin()
    hear(pool)
    assert keeper.lines[list(keeper.lines)[-1]].turn(wait=True) == 1


def test_what_waits_for_a_worker_that_is_killed_for_its_import_has_failed(
    pool: Pool, keeper: Keeper
) -> None:
    name, _ = coming(pool, keeper)
    pool.tend(PATIENCE)
    assert keeper.killed == [name]
    (failed,) = answers(pool.died(name, "signal 9 (SIGKILL)", "", PATIENCE, DEATH))
    assert (failed.outcome, failed.why) == ("failed", NO_CODE)


def test_two_workers_that_die_with_one_keeper_are_both_made_up_for(pool: Pool, keeper: Keeper) -> None:
    for number in (1, 2):
        pool.start(start(number, pool.handlers[0]))
    pool.feed(0)
    for at, name in enumerate(list(keeper.lines), 1):
        assert not pool.died(name, LOST, "", at, KEEPER)
    assert len(keeper.lines) == 4


def test_an_import_with_which_the_keeper_dies_each_time_is_tried_ever_more_seldom(
    pool: Pool, keeper: Keeper
) -> None:
    name, one = coming(pool, keeper)
    pool.died(name, LOST, "", 1, KEEPER)
    now = 1
    for pause in (SECOND, 2 * SECOND):
        crashed, closed = pool.died(list(keeper.lines)[-1], LOST, "", now, KEEPER)
        assert isinstance(crashed, Answered)
        assert (crashed.outcome, crashed.why) == ("crashed", NO_CODE)
        assert isinstance(closed, Broken)
        assert closed.until == now + pause
        pool.start(one)
        pool.feed(closed.until - 1)
        assert not pool.workers
        now = closed.until
        pool.feed(now)
    keeper.begin()
    hear(pool, now)
    assert pool.problem is None
    pool.reload(now)
    assert not pool.died(list(keeper.lines)[-1], LOST, "", now + 1, KEEPER)  # the first anew


def test_a_worker_that_is_dead_when_it_is_heard_to_be_ready_has_not_started(
    pool: Pool, keeper: Keeper
) -> None:
    name, _ = coming(pool, keeper)
    keeper.begin()
    crashed, closed = pool.died(name, "signal 9 (SIGKILL)", "", 0, DEATH)
    assert isinstance(crashed, Answered)
    assert isinstance(closed, Broken)
    assert not pool.workers


def test_a_log_that_its_task_has_made_a_pipe_keeps_nobody_waiting(pool: Pool, keeper: Keeper) -> None:
    name, first = busy(pool, keeper)
    os.makedirs(os.path.dirname(pool._log(first)))
    os.mkfifo(pool._log(first))
    crashed, *_ = pool.died(name, "signal 9 (SIGKILL)", "its last words", 0, DEATH)
    assert isinstance(crashed, Answered)
    assert crashed.error is not None
    assert crashed.error["trace"] == "its last words"


def test_a_reload_whose_worker_dies_with_the_keeper_is_made_up_for(pool: Pool, keeper: Keeper) -> None:
    old, _ = busy(pool, keeper)
    pool.reload(0)
    pool.died(list(keeper.lines)[-1], LOST, "", 1, KEEPER)
    keeper.begin()
    (event,) = [event for event in hear(pool) if isinstance(event, Registered)]
    assert event.asked
    assert pool.workers[old].leaving


@pytest.fixture
def few() -> Iterator[Callable[[], None]]:
    """Leaves one pair of descriptors for workers, who take two; files may be opened all the same."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave() -> None:
        ends = socket.socketpair()
        last = max(end.fileno() for end in ends)
        for end in ends:
            end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + SPARE + 1, files[1]))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


def test_what_waits_for_a_worker_that_no_descriptors_are_left_for_has_not_failed(
    pool: Pool, keeper: Keeper, few: Callable[[], None]
) -> None:
    one = start(1, pool.handlers[0])
    pool.start(one)
    few()
    (event,) = (found for found in pool.feed(0) if isinstance(found, NotStarted))
    assert (event.id, event.full) == (one.entry.id, True)
    assert "Too many open files" in event.error
    assert not keeper.lines


def test_where_there_are_descriptors_for_some_workers_only_these_do_all_of_it(
    pool: Pool, keeper: Keeper, few: Callable[[], None]
) -> None:
    pool.warm(0)
    one, other = start(1, pool.handlers[0]), start(2, pool.handlers[0])
    for each in (one, other):
        pool.start(each)
    few()
    assert not [event for event in pool.feed(0) if isinstance(event, NotStarted)]
    assert len(pool.workers) == 1
    name = keeper.begin()
    hear(pool)
    assert [key[0] for key in pool.workers[name].runs] == [one.entry.id]
    keeper.lines[name].send(end(one))
    hear(pool)
    assert [key[0] for key in pool.workers[name].runs] == [other.entry.id]


GARBAGE = [
    b"print\n",
    b"7\n",
    b"[]\n",
    b'{"ev":"dance"}\n',
    b'{"ev":[]}\n',
    b'{"ev":"progr{"ev":"end"}\n',
    b"\xff\n",
]


@pytest.mark.parametrize("said", GARBAGE)
def test_a_worker_whose_line_is_garbled_is_killed_and_what_it_said_before_counts(
    pool: Pool, keeper: Keeper, said: bytes
) -> None:
    name, one = busy(pool, keeper)
    keeper.lines[name].send(end(one))
    keeper.lines[name].sock.sendall(said)
    (event,) = hear(pool)
    assert isinstance(event, Answered)
    assert event.outcome == "done"
    assert keeper.killed == [name]
    assert not pool.died(name, "signal 9", "", 0)
    assert keeper.killed == [name]


def test_what_is_said_without_an_end_is_not_kept_for_ever(
    pool: Pool, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spoold.effects.worker.MOST", 1 << 20)
    name, one = busy(pool, keeper)
    keeper.lines[name].sock.settimeout(0)
    for _ in range(100):
        try:
            keeper.lines[name].sock.send(b"x" * (1 << 16))
        except BlockingIOError:
            assert not hear(pool)
    assert keeper.killed == [name]
    (event,) = answers(pool.died(name, "signal 9", "", 0))
    assert (event.id, event.outcome) == (one.entry.id, "crashed")
    assert event.error is not None
    assert event.error["message"].startswith("its worker was killed: it said what is no message")


def test_a_worker_that_imports_for_too_long_is_killed_and_what_waits_is_told_why(
    pool: Pool, keeper: Keeper
) -> None:
    one = start(1, pool.handlers[0])
    pool.start(one)
    pool.tend(0)
    pool.tend(60 * SECOND)
    (name,) = keeper.killed
    (event,) = answers(pool.died(name, "signal 9", "", 60 * SECOND))
    assert event.error is not None
    assert event.error["message"] == (
        "the worker for app did not start: it has not imported the module within 1 min"
    )


def test_a_worker_that_closes_its_line_and_lives_is_ended_when_nothing_runs(
    pool: Pool, keeper: Keeper
) -> None:
    name, one = busy(pool, keeper)
    keeper.lines[name].send(end(one))
    keeper.lines[name].sock.close()
    hear(pool)
    hear(pool)  # the end of file
    assert pool.due(0) is not None
    pool.tend(60 * SECOND)
    assert keeper.killed == [name]


def test_output_that_cannot_be_made_visible_yet_hurts_nobody(
    pool: Pool, keeper: Keeper, tmp_path: Path
) -> None:
    name, _ = busy(pool, keeper)
    with open(pool.workers[name].scratch, "w") as file:
        file.write("said")
    (tmp_path / "logs").touch()  # an error of the disk, as when it is full
    assert not pool.tend(2 * SECOND)


def test_at_a_reload_what_still_imports_the_code_before_it_is_replaced_as_well(
    pool: Pool, keeper: Keeper
) -> None:
    pool.warm(0)
    slow = list(keeper.lines)
    pool.reload(0)
    new = keeper.begin()
    hear(pool)
    keeper.lines[slow[0]].send({**READY, "takes": {}})
    hear(pool)
    assert pool.takes == {"t.run": frozenset({1})}
    assert [name for name, worker in pool.workers.items() if worker.able] == [new]


def test_a_worker_with_newer_code_sends_the_others_home_and_what_they_do_not_know_comes_back(
    pool: Pool, keeper: Keeper
) -> None:
    old, one = busy(pool, keeper)
    pool.start(start(2, pool.handlers[0]))
    pool.feed(0)
    new = keeper.begin(NEWER)
    (told,) = [event for event in hear(pool) if isinstance(event, Registered)]
    assert (set(told.takes), told.asked) == ({"t.run", "t.new"}, False)
    assert [name for name, worker in pool.workers.items() if worker.able] == [new]
    keeper.lines[old].send(end(one, outcome="parked", why="no-handler"))
    assert hear(pool) == [Returned(one.entry.id, one.entry.attempt)]


def test_a_worker_that_imported_for_so_long_that_its_code_is_old_leaves(
    pool: Pool, keeper: Keeper
) -> None:
    for number in (1, 2):
        pool.start(start(number, pool.handlers[0]))
    pool.feed(0)
    slow, quick = keeper.lines
    keeper.begin(NEWER)
    hear(pool)
    keeper.lines[slow].send(READY)
    assert [event for event in hear(pool) if isinstance(event, Registered)] == []
    assert [name for name, worker in pool.workers.items() if worker.able] == [quick]
    assert pool.takes is not None
    assert set(pool.takes) == {"t.run", "t.new"}


def test_at_a_reload_what_is_held_is_looked_at_though_the_code_takes_no_more_than_before(
    pool: Pool, keeper: Keeper
) -> None:
    busy(pool, keeper)
    pool.reload(0)
    keeper.begin()
    (told,) = [event for event in hear(pool) if isinstance(event, Registered)]
    assert told.asked
    state = State("n", load('[handlers."t.*"]\npython = "app"\n'), 2)
    assert registered(state, told) == [Scan("held")]
    assert registered(state, replace(told, asked=False)) == []


def test_the_end_of_a_task_that_is_killed_is_read_whole(pool: Pool, keeper: Keeper) -> None:
    name, one = busy(pool, keeper)
    keeper.lines[name].sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    keeper.lines[name].sock.settimeout(10)
    keeper.lines[name].send(end(one, result="x" * (CHUNK + 1000)))
    (event,) = pool.kill(Kill(one.entry.id, one.entry.attempt, SECOND, "timeout"), 0)
    assert isinstance(event, Answered)
    assert event.outcome == "done"
    assert not keeper.killed


@pytest.mark.parametrize("why", ["timeout", "cancelled", "interrupt"])
def test_what_a_worker_has_not_begun_is_nobodys_attempt_and_one_that_begins_nothing_is_killed(
    pool: Pool, keeper: Keeper, why: str
) -> None:
    name, before = busy(pool, keeper)
    keeper.lines[name].send(end(before))
    hear(pool)
    one, other = start(2, pool.handlers[0]), start(3, pool.handlers[0])
    pool.start(one)
    pool.feed(0)
    assert pool.kill(Kill(one.entry.id, one.entry.attempt, 0, why), 0) == [
        Returned(one.entry.id, one.entry.attempt)
    ]
    assert keeper.killed == [name] * (why == "timeout")
    pool.start(other)
    pool.feed(0)
    assert len(keeper.lines) == 1 + (why == "timeout"), "it goes to another worker"


def test_what_has_begun_goes_on_beside_a_coroutine_that_has_not(pool: Pool, keeper: Keeper) -> None:
    first, second = start(1, pool.handlers[0]), start(2, pool.handlers[0])
    pool.start(first)
    pool.feed(0)
    name = keeper.begin({**READY, "asyncs": ["t.run"]})
    hear(pool)
    assert keeper.lines[name].turn(wait=True) == 1
    pool.start(second)
    pool.feed(0)
    (event,) = pool.kill(Kill(second.entry.id, second.entry.attempt, 0, "timeout"), 0)
    assert event == Returned(second.entry.id, second.entry.attempt)
    assert not keeper.killed


def test_code_that_cannot_be_imported_costs_no_attempt_while_a_worker_has_the_code_before_it(
    pool: Pool, keeper: Keeper
) -> None:
    old, one = busy(pool, keeper)
    pool.start(start(2, pool.handlers[0]))
    pool.feed(0)  # one more worker, after half a deploy
    name = list(keeper.lines)[-1]
    keeper.lines[name].send({"ev": "broken", "error": {"type": "E", "message": "m"}})
    assert not [
        event for event in hear(pool) + pool.died(name, "exit 1", "", 0) if isinstance(event, Answered)
    ]
    keeper.lines[old].send(end(one))
    hear(pool)
    assert len(pool.workers[old].runs) == 1


@pytest.mark.parametrize("worn", ["tasks", "age", "rss"])
def test_while_new_code_does_not_work_a_worn_worker_goes_on_until_there_is_another(
    pool: Pool, keeper: Keeper, worn: str
) -> None:
    rule = {"tasks": {"recycle_tasks": 1}, "age": {"recycle_age": 1}, "rss": {"recycle_rss": 10}}
    pool.handlers = [handler(**rule[worn])]
    old, one = busy(pool, keeper)
    pool.reload(0)
    broken = list(keeper.lines)[-1]
    keeper.lines[broken].send({"ev": "broken", "error": {"type": "E", "message": "m"}})
    hear(pool)
    pool.died(broken, "exit 1", "", 0)
    facts = {**end(one)["facts"], "peak_rss": 15}
    keeper.lines[old].send(end(one, facts=facts))
    next_one = start(2, pool.handlers[0])
    pool.start(next_one)
    hear(pool, 1)
    assert len(pool.workers[old].runs) == 1
    assert len(keeper.lines) == 2, "the import is not tried again yet"
    assert pool.due(1) == SECOND - 1
    pool.tend(SECOND)
    new = keeper.begin()
    hear(pool, SECOND)
    assert [name for name, worker in pool.workers.items() if worker.able] == [new]
    assert list(pool.workers) == [old, new], "it ends what it runs"


def test_while_new_code_does_not_work_a_worker_that_grows_leaves_all_the_same(
    pool: Pool, keeper: Keeper
) -> None:
    pool.handlers = [handler(recycle_rss=10)]
    old, one = busy(pool, keeper)
    pool.problem = {"type": "E", "message": "m"}
    keeper.lines[old].send(end(one, facts={**end(one)["facts"], "peak_rss": 20}))
    hear(pool)
    assert pool.workers[old].leaving


def test_a_worker_that_comes_late_for_an_application_that_is_gone_leaves_as_well(
    pool: Pool, keeper: Keeper
) -> None:
    pool.retire(0)
    name, one = busy(pool, keeper)
    keeper.lines[name].send(end(one))
    hear(pool)
    assert pool.due(0) == SECOND
    pool.tend(SECOND)
    assert pool.workers[name].leaving


def test_who_is_beside_a_coroutine_that_must_be_killed_is_interrupted(pool: Pool, keeper: Keeper) -> None:
    rude, beside = start(1, pool.handlers[0]), start(2, pool.handlers[0])
    pool.start(rude)
    pool.feed(0)
    name, line = next(iter(keeper.lines.items()))
    line.receive(wait=True)
    line.send({**READY, "asyncs": ["t.run"]})
    hear(pool)
    pool.start(beside)
    pool.feed(0)
    assert [line.turn(wait=True), line.turn(wait=True)] == [1, 2]
    pool.kill(Kill(rude.entry.id, rude.entry.attempt, SECOND, "timeout"), 0)
    pool.tend(SECOND)
    assert keeper.killed == [name]
    ends = {e.id: (e.outcome, e.among) for e in answers(pool.died(name, "signal 9", "", SECOND))}
    assert ends == {rude.entry.id: ("crashed", 0), beside.entry.id: ("interrupted", 0)}


def together(pool: Pool, keeper: Keeper, many: int) -> str:
    """A worker, by its name, that runs so many coroutines."""
    tasks = [start(number, pool.handlers[0]) for number in range(many)]
    pool.start(tasks[0])
    pool.feed(0)
    name = keeper.begin({**READY, "asyncs": ["t.run"]})
    for one in tasks[1:]:
        pool.start(one)
    hear(pool)
    assert [keeper.lines[name].turn(wait=True) for _ in tasks] == [*range(1, many + 1)]
    return name


@pytest.mark.parametrize(("many", "among"), [(1, 0), (2, 1), (3, 2)])
def test_of_coroutines_that_die_together_none_is_blamed_and_each_comes_back_among_half_as_many(
    pool: Pool, keeper: Keeper, many: int, among: int
) -> None:
    name = together(pool, keeper, many)
    ends = answers(pool.died(name, "exit 1", "", 0))
    assert [(end.outcome, end.among) for end in ends] == [("crashed", among)] * many
    beside = {1: "", 2: "; so did 1 coroutine beside it", 3: "; so did 2 coroutines beside it"}
    assert {end.error and end.error["message"] for end in ends} == {
        f"its worker died: exit 1{beside[many]}"
    }


def test_of_coroutines_that_die_with_a_worker_that_was_killed_it_is_said_so(
    pool: Pool, keeper: Keeper
) -> None:
    name = together(pool, keeper, 3)
    pool.workers[name].killed = "it was too large"
    ends = answers(pool.died(name, "signal 9", "", 0))
    said = "its worker was killed: it was too large; so were 2 coroutines beside it"
    assert {end.error and end.error["message"] for end in ends} == {said}


@pytest.mark.parametrize("bad", [range(40), [39], [33]])
def test_of_coroutines_that_die_few_workers_are_started_at_a_time_and_each_that_does_it_is_found(
    pool: Pool, keeper: Keeper, bad: Sequence[int]
) -> None:
    pool.handlers = [handler(async_tasks=8)]
    dead: list[str] = []
    most = 0

    def run(one: Start) -> None:
        pool.start(one)
        pool.feed(0)

    for number in range(40):
        run(start(number, pool.handlers[0]))
    while len(dead) < len(bad):
        for name, worker in list(pool.workers.items()):
            if worker.coming:
                keeper.begin({**READY, "asyncs": ["t.run"]}, name)
        hear(pool)
        most = max(most, sum(w.among > 0 for w in pool.workers.values()))
        name, starts = next(
            (name, dict(worker.runs))
            for name, worker in pool.workers.items()
            if any(one.task.args in bad for one in worker.runs.values())
        )
        for _ in starts:
            assert keeper.lines[name].turn(wait=True)
        for end in answers(pool.died(name, "exit 1", "", 0)):
            one = starts[end.id, end.attempt]
            if not end.among:
                dead.append(end.id)
            else:
                run(replace(one, entry=replace(one.entry, among=end.among, interrupted=end.attempt)))
    assert len(set(dead)) == len(bad)
    assert most <= 5
