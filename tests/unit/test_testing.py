"""The test kit, as a user's tests use it: what runs in them is what runs in production."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from spool import (
    Cancelled,
    Fail,
    Invalid,
    NoSuchTask,
    NotASpool,
    Retry,
    Snooze,
    Spool,
    current,
    look,
    result,
    task,
)
from spool.disk import RealDisk
from spool.names import new_id
from spool.testing import NotSubmitted, Tester
from spool.testing.plugin import spool, spool_live  # noqa: F401 - as the plugin gives them
from spool.testing.tester import TOML

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.testing.live import Live

ROOT = Path(__file__).parents[2]
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


class Kind(enum.Enum):
    FAST = "fast"


@dataclasses.dataclass
class Parcel:
    weight: float
    kind: Kind


@task("kit.send", retries=2, backoff="1h")
def send(parcel: Parcel, when: datetime) -> dict[str, Any]:
    SEEN.append((parcel, when))
    return {"parcel": parcel, "when": when}


@task("kit.note")
def note(text: str, *, then: list[str] | None = None) -> str:
    SEEN.append(text)
    for other in then or []:
        note.submit(other)
    return text


@task("kit.how", retries=2, backoff="1h")
def how(what: str) -> int:
    if current().attempt == 1:
        match what:
            case "retry":
                raise Retry("again", after="10m")
            case "fail":
                raise Fail("no")
            case "snooze":
                raise Snooze(after="1d")
            case "cancel":
                raise Cancelled
            case "raise":
                raise ValueError(what)
            case "no json":
                return {1, 2}  # type: ignore[return-value]
    return current().attempt


@task("kit.wait")
async def wait(text: str) -> str:
    await asyncio.sleep(0)
    return text + current().task


@task("kit.walk")
def walk() -> Any:
    done = current().last_checkpoint or 0
    current().checkpoint(done + 1)
    if done < 2:
        raise Retry(after=0)
    return done


@task("kit.until")
def until(when: str) -> str:
    if current().attempt == 1:
        raise Snooze(until=when)
    return str(current().scheduled)


@task("kit.new", aliases=["kit.old"])
def renamed(n: int = 0) -> str:
    return f"{current().task} {n}"


@task("kit.obsolete", version=2)
def obsolete() -> None: ...


@obsolete.upgrade(from_version=1)
def _(args: dict[str, Any]) -> dict[str, Any]:
    raise SystemExit(f"{args['word']} at attempt {current().attempt}")


@dataclasses.dataclass
class Link:
    host: str

    def __post_init__(self) -> None:
        if SEEN:
            raise SEEN.pop(0)


@task("kit.linked", retries=2, backoff="1h")  # of which a part is drawn: of 1 s it may be none
def linked(link: Link | None = None, **links: Link) -> int:
    return current().attempt


@task("kit.late")
def late() -> bool:
    return current().should_stop()


def test_arguments_and_results_go_through_json(spool: Tester) -> None:  # noqa: F811
    when = datetime(2027, 1, 2, 3, 4, tzinfo=UTC)
    send.submit(Parcel(1.5, Kind.FAST), when=when)
    assert SEEN == []
    (record,) = spool.run_ready()
    assert [(Parcel(1.5, Kind.FAST), when)] == SEEN
    assert record["outcome"] == "ok"
    assert spool.result_of("kit.send") == {
        "parcel": {"weight": 1.5, "kind": "fast"}, "when": "2027-01-02T03:04:00+00:00",
    }  # fmt: skip


def test_what_an_upgrade_raises_is_the_end_of_the_attempt(spool: Tester) -> None:  # noqa: F811
    spool.spool.submit("kit.obsolete", {"word": "obsolete"}, version=1, retries=0)
    (record,) = spool.run_ready()
    assert (record["error"]["type"], record["error"]["message"]) == (
        "SystemExit", "obsolete at attempt 1",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["link", "other"])
def test_what_a_type_of_the_application_raises_is_tried_again_and_refused_at_submit(
    spool: Tester,  # noqa: F811
    name: str,
) -> None:
    link = Link("a")
    SEEN[:] = [KeyError("a")] * 2
    with pytest.raises(Invalid, match=rf"^args\.{name} .*: must fit its annotation: KeyError: 'a'"):
        linked.submit(**{name: link})
    SEEN[:] = []
    linked.submit(**{name: link})
    SEEN[:] = [ConnectionError("reset"), Retry("later", after=60)]
    assert [r["outcome"] for r in spool.run_ready()] == ["error"]
    spool.move("1h")
    assert [r["outcome"] for r in spool.run_ready()] == ["error"]
    spool.move("59s")
    assert spool.run_ready() == []
    spool.move("1s")
    assert [r["result"] for r in spool.run_ready()] == [3]


def test_a_wrong_argument_is_refused_at_submit_by_its_name(spool: Tester) -> None:  # noqa: F811
    with pytest.raises(Invalid, match=r"args\.parcel.*Parcel|args\.parcel"):
        send.submit("heavy", when=datetime.now(UTC))  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="missing a required argument: 'text'"):
        note.submit()  # type: ignore[call-arg]
    spool.refute_submitted("kit.send")


def test_what_is_submitted_can_be_asserted(spool: Tester) -> None:  # noqa: F811
    note.submit("one")
    note.with_options(priority="high", meta={"a": 1}).submit("two")
    assert spool.assert_submitted("kit.note", text="one").args == {"text": "one"}
    spool.assert_submitted("kit.note", count=2)
    assert spool.assert_submitted("kit.note", text="two").priority == "high"
    spool.refute_submitted("kit.note", text="three")
    with pytest.raises(NotSubmitted, match=r"kit\.note {'text': 'three'} was not submitted"):
        spool.assert_submitted("kit.note", text="three")
    with pytest.raises(NotSubmitted, match="3 times, but 2"):
        spool.assert_submitted("kit.note", count=3)
    with pytest.raises(NotSubmitted, match="was submitted"):
        spool.refute_submitted("kit.note", text="one")


def test_a_task_can_be_asked_for_by_its_function(spool: Tester) -> None:  # noqa: F811
    spool.assert_submitted(note, count=0)
    with pytest.raises(NotSubmitted, match=r"^kit\.note was not submitted; there is: nothing"):
        spool.assert_submitted(note)
    note.submit("one")
    spool.assert_submitted(note, count=1, text="one")
    spool.refute_submitted(note, text="two")
    assert spool.outcome_of(note) == "pending"
    with pytest.raises(NotSubmitted, match="0 times, but 1"):
        spool.assert_submitted(note, count=0)
    spool.run_ready()
    assert spool.result_of(note) == "one"


def test_who_asks_for_what_was_not_submitted_or_has_not_run_is_told_so(spool: Tester) -> None:  # noqa: F811
    task_id = note.submit("x")
    assert spool.outcome_of("kit.note") == spool.outcome_of(task_id) == "pending"
    with pytest.raises(AssertionError, match=r"kit\.note has no result: pending"):
        spool.result_of("kit.note")
    for ask in (spool.outcome_of, spool.result_of, spool.record_of):
        for unknown in ("kit-note", new_id()):
            with pytest.raises(
                AssertionError, match=f"{unknown} was not submitted; there is:\n  kit.note"
            ):
                ask(unknown)


def test_tasks_run_in_the_order_of_the_queue_and_with_what_they_submit(spool: Tester) -> None:  # noqa: F811
    note.with_options(priority="low").submit("low", then=["medium"])
    note.with_options(priority="high").submit("high")
    assert len(spool.run_ready()) == 3
    assert SEEN == ["high", "low", "medium"]


@pytest.mark.parametrize(
    "look", [lambda _: None, lambda s: s.assert_submitted("kit.note"), lambda s: s.move("1h")]
)
def test_to_look_or_move_starts_nothing(spool: Tester, look: Callable[[Tester], Any]) -> None:  # noqa: F811
    gone = note.submit("gone")
    look(spool)
    spool.spool.cancel(gone)
    kept = note.submit("kept")
    look(spool)
    spool.spool.hold(kept)
    keyed = note.with_options(key="k", on_duplicate="replace")
    old = keyed.submit("old")
    look(spool)
    keyed.submit("new")
    note.with_options(priority="low").submit("low")
    look(spool)
    note.with_options(priority="high").submit("high")
    assert spool.outcome_of(old) == "cancelled"
    spool.run_ready()
    assert SEEN == ["high", "new", "low"]
    assert (spool.outcome_of(gone), spool.outcome_of(kept)) == ("cancelled", "held")


@pytest.mark.parametrize(
    ("on_miss", "outcome"), [("drop", "cancelled"), ("fail", "error"), ("run", "ok")]
)
def test_a_deadline_is_missed_by_a_move(spool: Tester, on_miss: Any, outcome: str) -> None:  # noqa: F811
    task_id = late.with_options(deadline="+10s", on_miss=on_miss).submit()
    spool.move("20s")
    spool.run_ready()
    assert spool.outcome_of(task_id) == outcome


@pytest.mark.parametrize(
    ("on_miss", "outcome", "ran"), [("drop", "cancelled", 1), ("fail", "error", 1), ("run", "ok", 2)]
)
def test_a_deadline_that_passes_while_a_task_runs_is_missed_when_that_is_put_off(
    tmp_path: Path, on_miss: Any, outcome: str, ran: int
) -> None:
    kit = Tester(tmp_path, TOML)

    @task("kit.slow")
    def slow() -> None:
        SEEN.append("slow")
        if current().attempt == 1:
            kit.move("20s")
            raise Snooze(after="1h")

    task_id = slow.with_options(spool=kit.spool, deadline="+10s", on_miss=on_miss).submit()
    kit.run_ready()
    kit.move("2h")
    kit.run_ready()
    assert kit.outcome_of(task_id) == outcome
    assert ["slow"] * ran == SEEN
    kit.close()


def test_each_start_is_decided_when_the_one_before_has_ended(tmp_path: Path) -> None:
    kit = Tester(tmp_path, "concurrency = 4" + TOML)
    using = note.with_options(spool=kit.spool)

    @task("kit.urgent")
    def urgent() -> None:
        SEEN.append("urgent")
        note.with_options(spool=kit.spool, priority="high").submit("high")
        kit.spool.cancel(last)

    for number in range(5):
        using.submit(str(number))
    urgent.with_options(spool=kit.spool).submit()
    using.submit("next")
    last = using.submit("last")
    kit.run_ready()
    assert [*"01234", "urgent", "high", "next"] == SEEN
    assert kit.outcome_of(last) == "cancelled"
    kit.close()


def test_the_clock_is_the_tests(spool: Tester) -> None:  # noqa: F811
    note.with_options(at="+2h").submit("later")
    assert spool.run_ready() == []
    assert spool.outcome_of("kit.note") == "pending"
    before = spool.now
    spool.move("90m")
    assert spool.run_ready() == []
    note.with_options(at="+1h").submit("much later")  # counted from the moved clock
    spool.move(timedelta(minutes=31))
    assert spool.now - before >= timedelta(hours=2, minutes=1)
    spool.run_ready()
    assert SEEN == ["later"]
    spool.move("30m")
    spool.run_ready()
    assert SEEN == ["later", "much later"]


@pytest.mark.parametrize(
    ("what", "outcome", "then"),
    [("retry", "error", 2), ("snooze", "snoozed", 2), ("raise", "error", 2)],
)
def test_what_goes_back_runs_again_when_its_time_has_come(
    spool: Tester,  # noqa: F811
    what: str,
    outcome: str,
    then: int,
) -> None:
    task_id = how.submit(what)
    assert [r["outcome"] for r in spool.run_ready()] == [outcome]
    assert spool.run_ready() == []
    assert [r["outcome"] for r in spool.run_all()] == ["ok"]
    assert spool.result_of(task_id) == then


@pytest.mark.parametrize("what", ["raise", "snooze"])
def test_what_goes_back_does_not_run_in_the_same_run_however_long_the_rest_takes(
    spool: Tester,  # noqa: F811
    what: str,
) -> None:
    @task("kit.soon", retries=9, backoff="60ms")
    def soon() -> None:
        if what == "snooze":
            raise Snooze(after="60ms")
        raise ValueError

    @task("kit.long", priority="low")
    def long() -> None:
        time.sleep(0.08)
        soon.submit()

    first = soon.submit()
    long.submit()
    ran = [(record["id"] == first, record["attempt"]) for record in spool.run_ready()]
    assert ran == [(True, 1), (False, 1), (False, 1)]
    time.sleep(0.08)  # outside of it the clock goes on
    spool.run_ready()
    assert [record["attempt"] for record in look.records(RealDisk(spool.path), first)] == [1, 2]


@pytest.mark.parametrize(
    ("what", "outcome"), [("fail", "error"), ("cancel", "cancelled"), ("no json", "error")]
)
def test_what_ends_for_good_does_not_run_again(spool: Tester, what: str, outcome: str) -> None:  # noqa: F811
    task_id = how.submit(what)
    spool.run_all()
    assert spool.outcome_of(task_id) == outcome
    with pytest.raises(AssertionError, match="has no result"):
        spool.result_of(task_id)


def test_coroutines_run_also_where_the_test_is_one(spool: Tester) -> None:  # noqa: F811
    wait.submit("a ")

    async def inner() -> None:
        spool.run_ready()

    asyncio.run(inner())
    assert spool.result_of("kit.wait") == "a kit.wait"


def test_checkpoints_reach_the_next_attempt(spool: Tester) -> None:  # noqa: F811
    task_id = walk.submit()
    assert spool.spool.checkpoint(task_id) is None
    assert [r["outcome"] for r in spool.run_ready()] == ["error", "error", "ok"]
    assert spool.result_of("kit.walk") == 2
    assert spool.spool.checkpoint(task_id) == 3
    with pytest.raises(NoSuchTask):
        spool.spool.checkpoint("../x")


@pytest.mark.parametrize("span", ["-1h", "tomorrow", datetime(2027, 1, 1, tzinfo=UTC), timedelta(-1)])
def test_the_clock_does_not_move_by_what_is_no_span(spool: Tester, span: Any) -> None:  # noqa: F811
    with pytest.raises(Invalid, match=r"^span `.+`: must be"):
        spool.move(span)


def test_a_deadline_that_passes_while_a_task_runs_tells_it_to_stop(tmp_path: Path) -> None:
    kit = Tester(tmp_path, TOML)

    @task("kit.watches")
    def watches() -> list[bool]:
        before = current().should_stop()
        kit.move("2h")
        return [before, current().should_stop()]

    watches.with_options(spool=kit.spool, deadline="+1h").submit()
    kit.run_ready()
    assert kit.result_of("kit.watches") == [False, True]
    kit.close()


def test_a_task_that_begins_after_its_deadline_is_not_told_to_stop(spool: Tester) -> None:  # noqa: F811
    late.with_options(deadline="+1h").submit()
    spool.move("2h")
    spool.run_ready()
    assert spool.result_of("kit.late") is False


def test_a_time_that_a_task_names_is_of_the_clock_and_zone_of_the_test(tmp_path: Path) -> None:
    kit = Tester(tmp_path, 'timezone = "Asia/Tokyo"' + TOML)
    kit.move("2d")
    until.with_options(spool=kit.spool).submit("+1h")
    assert [record["outcome"] for record in kit.run_ready()] == ["snoozed"]
    kit.move("1h")
    assert [record["outcome"] for record in kit.run_ready()] == ["ok"]
    local = until.with_options(spool=kit.spool).submit("2090-01-01 09:00")
    kit.run_all()
    assert kit.result_of(local) == "2090-01-01 00:00:00+00:00"
    kit.close()


def test_wanted_arguments_are_compared_as_they_are_submitted(spool: Tester) -> None:  # noqa: F811
    when = datetime(2027, 1, 2, 3, 4, tzinfo=UTC)
    parcel = Parcel(1.5, Kind.FAST)
    send.submit(parcel, when=when)
    spool.assert_submitted("kit.send", when=when, parcel=parcel)
    spool.assert_submitted("kit.send", when=ANY)
    with pytest.raises(NotSubmitted, match="was submitted"):
        spool.refute_submitted("kit.send", when=when, parcel=parcel)
    spool.refute_submitted("kit.send", parcel=Parcel(2, Kind.FAST))
    note.submit("a", then=["b"])
    spool.assert_submitted("kit.note", then=("b",))


def test_what_a_task_submits_goes_to_the_spool_it_runs_for(
    spool: Tester,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "other").mkdir()
    other = Tester(tmp_path / "other")
    note.with_options(spool=other.spool).submit("a", then=["b"])
    assert (len(other.run_ready()), spool.run_ready()) == (2, [])
    other.close()
    note.submit("c")
    spool.assert_submitted("kit.note", count=1)


@task("kit.order")
def order() -> None:
    Spool().submit("kit.note", {"text": "by its place"})  # as an application does


def test_the_spool_of_the_environment_is_the_tests(spool: Tester) -> None:  # noqa: F811
    order.submit()
    spool.run_ready()
    spool.assert_submitted("kit.note", text="by its place")
    assert spool.outcome_of("kit.order") == spool.outcome_of("kit.note") == "ok"


def test_the_spool_of_the_environment_is_nobody_elses_with_processes(
    spool_live: Callable[..., Live],  # noqa: F811
) -> None:
    with pytest.raises(NotASpool):
        Spool()
    live = spool_live(__name__)
    assert Spool().path == live.path


def test_a_task_is_found_by_any_of_its_names(spool: Tester) -> None:  # noqa: F811
    spool.spool.submit("kit.old", {"n": 1})
    spool.move("1s")
    renamed.submit(2)
    spool.run_ready()
    assert [one.args["n"] for one in spool.submitted("kit.old")] == [1, 2]
    spool.assert_submitted("kit.new", n=1)
    assert spool.result_of("kit.old") == spool.result_of("kit.new") == "kit.new 2"


def test_the_error_of_what_has_no_result_can_be_read(spool: Tester) -> None:  # noqa: F811
    how.with_options(retries=0).submit("raise")
    spool.run_ready()
    with pytest.raises(AssertionError) as told:
        spool.result_of("kit.how")
    lines = str(told.value).splitlines()
    assert lines[:2] == ["kit.how has no result: ValueError: raise", "Traceback (most recent call last):"]
    assert any(line.strip().startswith("File ") for line in lines)


def test_a_task_without_code_is_held(spool: Tester) -> None:  # noqa: F811
    spool.spool.submit("kit.gone")
    spool.spool.submit("kit.note", {"text": "x"}, version=9)
    assert spool.run_ready() == []
    assert (spool.outcome_of("kit.gone"), spool.outcome_of("kit.note")) == ("held", "held")
    with pytest.raises(AssertionError, match=r"gone has no result: held: no function is marked @task"):
        spool.result_of("kit.gone")
    with pytest.raises(AssertionError, match=r"has no result: held: kit\.note takes version 1, not 9"):
        spool.result_of("kit.note")


def test_an_upgrade_may_end_a_task(spool: Tester) -> None:  # noqa: F811
    @task("kit.moved", version=2)
    def moved() -> None: ...

    @moved.upgrade(from_version=1)
    def _(_: Any) -> Any:
        raise Cancelled("of no use any more")

    spool.spool.submit("kit.moved", version=1)
    spool.run_ready()
    assert spool.outcome_of(moved) == "cancelled"


def test_what_waits_for_others_runs_when_they_are_done(spool: Tester) -> None:  # noqa: F811
    late = {"task": "kit.note", "args": {"text": "late"}, "ref": "a", "at": "+1h"}
    last = {"task": "kit.note", "args": {"text": "last"}, "after": ["a"]}
    ids = spool.spool.submit_many([last, late], then={"task": "kit.note", "args": {"text": "then"}})
    assert spool.run_ready() == []
    assert spool.outcome_of(ids[0]) == "held"
    spool.move("1h")
    assert [record["id"] for record in spool.run_ready()] == [ids[1], ids[0], ids[2]]
    assert SEEN == ["late", "last", "then"]


def test_calls_of_functions_wait_for_each_other_and_are_given_results(spool: Tester) -> None:  # noqa: F811
    first = note.with_options(ref="a", key="one").document("x")
    last = note.with_options(ref="b").document(result("a"))
    spool.spool.submit_many([last, first], then=wait.with_options(on_failure="only").document("failed"))
    spool.run_ready()
    assert SEEN == ["x", "x"]
    assert spool.outcome_of("kit.wait") == "cancelled"


@task("kit.sorry")
def sorry() -> list[str]:
    views = [Spool().get(one) for one in current().after]
    return [f"{view.task}: {view.error['message']}" for view in views if view.error]


def test_what_follows_a_failure_can_see_what_has_failed(spool: Tester) -> None:  # noqa: F811
    good = note.submit("a")
    bad = spool.spool.submit("kit.note", {"nonsense": 1}, retries=0)
    sorry.with_options(after=[good, bad], on_failure="only").submit()
    spool.run_ready()
    (said,) = spool.result_of(sorry)
    assert said.startswith("kit.note: ")


def test_what_fails_takes_along_what_was_told_to_go_with_it(spool: Tester) -> None:  # noqa: F811
    bad = how.with_options(retries=0).submit("fail")
    gone, waits, told = spool.spool.submit_many(
        {"task": "kit.note", "args": {"text": choice}, "after": [bad], "on_failure": choice}
        for choice in ("cancel", "wait", "only")
    )
    spool.run_ready()
    assert [spool.outcome_of(one) for one in (gone, waits, told)] == ["cancelled", "held", "ok"]
    assert SEEN == ["only"]


def test_an_interrupt_ends_the_test_and_no_attempt(spool: Tester) -> None:  # noqa: F811
    def stop() -> int:
        SEEN.append(current().attempt)
        if len(SEEN) == 1:
            signal.raise_signal(signal.SIGINT)
        return len(SEEN)

    async def stop_async() -> int:
        found = stop()
        await asyncio.sleep(0)
        return found

    for name, function in (("kit.stop", stop), ("kit.astop", stop_async)):
        SEEN.clear()
        stopped = task(name)(function).submit()
        with pytest.raises(KeyboardInterrupt):
            spool.run_ready()
        spool.run_ready()
        assert (spool.result_of(stopped), SEEN) == (2, [1, 1])


def test_a_coroutine_that_cancels_itself_has_failed(spool: Tester) -> None:  # noqa: F811
    @task("kit.self", retries=0)
    async def itself() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)

    itself.submit()
    (record,) = spool.run_ready()
    assert record["error"]["type"] == "CancelledError"


def test_a_task_that_submits_itself_for_ever_is_told(spool: Tester, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr("spool.testing.tester.ATTEMPTS", 20)

    @task("kit.again")
    def again() -> None:
        again.submit()

    again.submit()
    with pytest.raises(AssertionError, match="does a task submit itself"):
        spool.run_ready()


def test_the_same_with_processes(spool_live: Callable[..., Live]) -> None:  # noqa: F811
    live = spool_live(__name__ if "." not in __name__ else "tests.unit.test_testing")
    task_id = note.submit("hello")
    assert live.wait(task_id)["result"] == "hello", live.said()


def test_who_waits_for_a_daemon_that_has_died_is_told_what_it_said(
    spool_live: Callable[..., Live],  # noqa: F811
) -> None:
    live = spool_live("x", toml="nosuch = 1")
    with pytest.raises(AssertionError, match=r"spoold has ended with status 78:\n.*nosuch"):
        live.wait(live.spool.submit("a.b"))


USERS = """
import os
from spool import task
from spool.tasks.define import chosen
@task("users.double")
def double(n: int) -> int:
    return 2 * n
def test_it(spool):
    double.submit(21)
    spool.assert_submitted("users.double", n=21)
    spool.run_ready()
    assert spool.result_of("users.double") == 42
def test_what_was_chosen_is_so_again():
    assert os.environ["SPOOL_DIR"] == "/nowhere" and chosen() is None
"""


def test_the_plugin_works_in_a_project_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(USERS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "spool.testing.plugin", "-p", "no:cacheprovider"),
            *("--basetemp", tmp_path / "base"),  # else it tidies up after other runs when it ends: minutes
            *("-o", "faulthandler_timeout=60", tmp_path),
        ],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "SPOOL_DIR": "/nowhere"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
