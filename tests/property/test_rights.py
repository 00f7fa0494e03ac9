"""What one rule allows is allowed, nothing else is; and nobody takes the turns of the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spool.actions import Ack, Control, Move, Task, Verb, decode, interpret
from spool.names import PRIORITIES
from spool.settings import Rule, Settings, load
from spool.times import HOUR, MINUTE
from spoold.core import rights
from spoold.core.fairness import FIRST, Rates, in_turn
from spoold.core.values import Now, Who

NOW = 1_790_000_000_000_000
TASKS = ["note", "thumb.make", "spool.run"]
BOXES = ["shop", "mail"]
some = st.lists(st.sampled_from([*TASKS, "thumb.*", "*"]), max_size=2).map(tuple)
boxes = st.lists(st.sampled_from([*BOXES, "*"]), max_size=1).map(tuple)
whos = st.sampled_from(
    ["*", "user:7", "user:zoe", "group:staff", "group:8", "key:zoe@x", "user:9", "key:y"]
)
rules = st.builds(
    Rule,
    who=whos,
    tasks=some,
    priority=st.sampled_from(PRIORITIES),
    front=st.booleans(),
    ahead=st.sampled_from([0, HOUR]),
    outboxes=boxes,
    parents=boxes,
    verbs=st.sets(st.sampled_from(["cancel", "retry", "move"])).map(tuple),
    admin=st.booleans(),
    run=st.booleans(),
    waiting=st.integers(1, 3),
    rate=st.integers(1, 100),
    files=st.integers(1, 100),
    bytes=st.integers(1024, 4096),
)
policies = st.lists(rules, max_size=4, unique_by=lambda rule: rule.who).map(tuple)
people = st.builds(
    Who,
    uid=st.just(7),
    name=st.just("zoe"),
    groups=st.sampled_from([(), ("staff", "8")]),
    key=st.sampled_from([None, "zoe@x", "stranger"]),
    trusted=st.just(False),
)
docs = st.fixed_dictionaries(
    {"task": st.sampled_from(TASKS)},
    optional={
        "priority": st.sampled_from(PRIORITIES),
        "position": st.sampled_from(["front", "back"]),
        "at": st.sampled_from(["+0s", "+30m", "+2h"]),
        "deadline": st.just("+3h"),
        "notify": st.sampled_from(BOXES),
    },
)


def settings(policy: tuple[Rule, ...]) -> Settings:
    return replace(load("shared = true"), policy=policy)


def task_of(doc: dict[str, object], **facts: object) -> Task:
    import json
    from datetime import UTC

    if doc["task"] == "spool.run":
        doc = {**doc, "args": {"argv": ["true"]}}
    made = interpret(decode(json.dumps(doc).encode()), now=NOW, dropped=NOW, zone=UTC, uid=7)
    return replace(made.tasks[0], **facts)  # type: ignore[union-attr]


def allows(rule: Rule, who: Who, task: Task) -> bool:
    """The same, said once more and in another way."""
    mine = (
        {"*", f"key:{who.key}"}
        if who.key
        else {"*", "user:7", "user:zoe", *(f"group:{g}" for g in who.groups)}
    )
    named = (
        rule.run
        if task.task == "spool.run"
        else any(
            p in ("*", task.task) or (p == "thumb.*" and task.task == "thumb.make") for p in rule.tasks
        )
    )
    low = PRIORITIES.index(task.priority or "medium") >= PRIORITIES.index(rule.priority)
    return (
        rule.who in mine
        and named
        and low
        and (task.deadline is None or rule.priority == "high")
        and (rule.front or not task.front)
        and task.at <= NOW + rule.ahead
        and (task.notify is None or "*" in rule.outboxes or task.notify in rule.outboxes)
    )


@given(policies, people, docs)
def test_a_task_is_allowed_where_one_rule_of_its_writer_allows_all_of_it(
    policy: tuple[Rule, ...], who: Who, doc: dict[str, object]
) -> None:
    task = task_of(doc)
    why = rights.why_not_submit(settings(policy), who, [task], NOW, 0)
    assert (why == "") == any(allows(rule, who, task) for rule in policy)
    assert why == "" or who.said in why
    assert rights.why_not_submit(settings(()), who, [task], NOW, 0) != ""
    assert rights.why_not_submit(settings(policy), replace(who, trusted=True), [task], NOW, 10**9) == ""


@given(policies)
def test_who_has_a_name_here_or_in_a_rule_has_a_turn_of_his_own(policy: tuple[Rule, ...]) -> None:
    found = settings(policy)
    named = any(rule.who == "user:7" for rule in policy)
    assert rights.turn_of(found, Who(7, "7")) == (7 if named else rights.UNKNOWN)
    assert rights.turn_of(found, Who(8, "8")) == rights.UNKNOWN
    assert rights.turn_of(found, Who(8, "zoe")) == rights.turn_of(found, Who(8, "8", trusted=True)) == 8


@given(policies, people, st.integers(0, 5), st.integers(1, 3))
def test_nobody_has_more_tasks_than_the_largest_of_his_quotas(
    policy: tuple[Rule, ...], who: Who, live: int, number: int
) -> None:
    everything = tuple(replace(r, tasks=("*",), priority="high", ahead=HOUR) for r in policy)
    why = rights.why_not_submit(
        settings(everything), who, [task_of({"task": "note"})] * number, NOW, live
    )
    mine = rights.rules_of(settings(everything), who)
    if mine:
        most = max(rule.waiting for rule in mine)
        assert ("is too large" in why) == (number > max(1, most))  # it fits at no time
        assert ("queue is full" in why) == (live + number > most and number <= max(1, most))
        assert bool(why) == (live + number > most)


@given(policies, people, st.sampled_from([None, "zoe@x", "stranger"]), st.sampled_from([7, 8]))
def test_verbs_are_about_ones_own_tasks_unless_one_is_an_admin(
    policy: tuple[Rule, ...], who: Who, signer: str | None, uid: int
) -> None:
    task = task_of({"task": "note"}, signer=signer, uid=uid)
    found = settings(policy)
    mine = rights.rules_of(found, who)
    admin = any(rule.admin for rule in mine)
    own = signer == who.key if who.key else (signer is None and uid == 7)
    verb = Verb(kind="cancel", ids=("x",), match=None, why=None)
    why = rights.why_not_ask(found, who, verb) or rights.why_not_task(found, who, verb, task, "shop", 0)
    assert (why == "") == (admin or (own and any("cancel" in rule.verbs for rule in mine)))
    ack = Ack(id="x", attempt=1, result=None)
    why = rights.why_not_task(found, who, ack, task, "shop", 0)
    assert (why == "") == (admin or any("shop" in r.parents or "*" in r.parents for r in mine))
    pause = Control(kind="pause", node=None, task=None, who=None, why=None, until=None)
    assert (rights.why_not_ask(found, who, pause) == "") == admin


@given(policies, people, st.sampled_from(PRIORITIES), st.sampled_from([0, 2 * HOUR]), st.booleans())
def test_a_move_gives_no_more_than_a_submission_could(
    policy: tuple[Rule, ...],
    who: Who,
    priority: str,
    at: int,
    front: bool,
) -> None:
    task = task_of({"task": "note"}, signer=who.key, uid=who.uid)
    move = Move(ids=("x",), match=None, priority=priority, front=front, at=at, deadline=None, why=None)
    mine = rights.rules_of(settings(policy), who)
    may = any(
        r.admin
        or (
            "move" in r.verbs
            and at <= r.ahead
            and (r.front or not front)
            and PRIORITIES.index(priority) >= PRIORITIES.index(r.priority)
        )
        for r in mine
    )
    assert (rights.why_not_task(settings(policy), who, move, task, "shop", 0) == "") == may


@given(
    st.dictionaries(st.integers(0, 9), st.integers(0, 400), max_size=9),
    st.integers(0, 300),
    st.dictionaries(st.integers(0, 9), st.integers(0, 50)),
    st.integers(-2, 9),
)
def test_turns_are_fair_and_lose_nothing(
    waiting: dict[int, int], most: int, allowed: dict[int, int], last: int
) -> None:
    queues = {writer: [(writer, n) for n in range(number)] for writer, number in waiting.items()}
    found = in_turn(queues, most, allowed, last)
    assert len(found) == min(most, sum(min(n, allowed.get(w, n)) for w, n in waiting.items()))
    able = sorted(w for w, n in waiting.items() if n and allowed.get(w, 1))
    first = [w for w in able if w > last] + [w for w in able if w <= last]
    assert [w for w, _ in found[: len(first)]] == first[: len(found)]
    for writer, number in waiting.items():
        mine = [n for w, n in found if w == writer]
        assert mine + [n for _, n in queues[writer]] == list(range(number))
        for other in waiting:
            theirs = sum(1 for w, _ in found if w == other)
            if len(mine) < min(number, allowed.get(writer, number)):
                assert theirs <= len(mine) + 1


@given(st.integers(1, 6000), st.lists(st.integers(0, 2 * MINUTE), min_size=1, max_size=30))
def test_a_rate_is_never_exceeded_for_long_and_never_starves(rate: int, pauses: list[int]) -> None:
    rates, now, taken = Rates(), 0, 0
    for pause in pauses:
        now += pause
        at = Now(0, now)
        left = rates.left(1, rate, at)
        rates.take(1, rate, at, left)
        taken += left
        depth = min(rate, max(FIRST, rate // 60))
        assert taken <= depth + now * rate / MINUTE * 1.001 + 2
        assert rates.left(1, rate, at) == 0
        later = Now(0, now + rates.wait(1, rate, at))
        assert rates.left(1, rate, later) > 0
