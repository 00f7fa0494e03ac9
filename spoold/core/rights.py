"""Who may do what: the rules of [policy] against one writer and what he asks for. Default: nothing.

What one rule of his allows is allowed; what he asks for must be within one of them as a whole. Who
signs is judged by his key alone, any other by his user and groups. The user that runs spoold may do
everything, and so may root where a uid is no mere claim.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from spool.actions import (
    Ack,
    Care,
    Control,
    Extend,
    Fail,
    Move,
    Progress,
    Prune,
    Replay,
    Schedule,
    Submit,
    Task,
    Verb,
)
from spool.names import PRIORITIES, date_of
from spool.patterns import matches
from spool.requests import kind_of
from spool.runargs import RUN
from spool.times import format_span
from spoold.core.values import Drop, Note, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spool.actions import Action as Request
    from spool.settings import Rule, Settings
    from spoold.core.state import State
    from spoold.core.values import Action, Now, Who

Led = TypeVar("Led", Task, Move)

ANY = "*"
KEPT = 1000  # refusals of one writer a day that are kept and told
TOLD = 1000  # of those that are not, how many stand in one line of the journal
UNKNOWN = -1  # the turn of all that nobody knows
UNHEARD = "no rule of [policy] is about"


def rules_of(settings: Settings, who: Who) -> list[Rule]:
    """The rules a writer has."""
    if who.key is not None:
        names = {ANY, f"key:{who.key}"}
    else:
        names = {ANY, f"user:{who.name}", f"user:{who.uid}", *(f"group:{g}" for g in who.groups)}
    return [rule for rule in settings.policy if rule.who in names]


def turn_of(settings: Settings, who: Who) -> int:
    """In whose turn and quotas his files and refusals count: his own, if somebody knows him.

    A user may have 65,536 uids (subuid(5)) that neither this machine nor a rule has a name for.
    """
    is_known = who.trusted or who.name != str(who.uid) or who.groups
    named = f"user:{who.uid}"
    return who.uid if is_known or any(rule.who == named for rule in settings.policy) else UNKNOWN


def why_not_submit(settings: Settings, who: Who, tasks: Sequence[Task], now: int, live: int) -> str:
    """Why a writer may not submit these tasks; empty where he may. `live`: his that have not ended."""
    if who.trusted:
        return ""
    rules = rules_of(settings, who)
    most = max((rule.waiting for rule in rules), default=0)
    if rules and len(tasks) > max(1, most):
        text = f"an action of {len(tasks)} tasks is too large for {who.said}, who may have {most}"
        return f"{text}; make several of it, or raise `waiting` in [policy]"
    if rules and tasks and live + len(tasks) > most:  # what is known already takes no more room
        text = f"the queue is full for {who.said}: {live} of {most} tasks have not ended"
        return f"{text}; try again later, or raise `waiting` in [policy]"
    for task in tasks:
        handler = settings.handler_for(task.task)
        given = task.priority or (None if handler and handler.priority else "medium")
        why = _least(rules, who, partial(_not_submit, task=task, priority=given, now=now))
        if why:
            return why
    return ""


def why_not_back(settings: Settings, who: Who, task: Task, live: int) -> str:
    """Why a task of a writer may not come back after its end. `live`: his that have not ended then."""
    if who.trusted or task.writer != who.token or live < quota(settings, who, "waiting"):
        return ""
    text = f"the queue is full for {who.said}: as many tasks have not ended as he may have"
    return f"{text}; try again later, or raise `waiting` in [policy]"


def why_not_ask(settings: Settings, who: Who, request: Request) -> str:
    """Why a writer may not ask for this at all, whatever tasks it is about; empty where he may."""
    if who.trusted or isinstance(request, Submit):
        return ""
    if isinstance(request, Schedule):
        return f"{who.said} may not change schedules: whose spool it is does"
    rules = rules_of(settings, who)
    if isinstance(request, Ack | Fail | Extend | Progress):
        none = "does not allow answers (parents)"
        return _least(rules, who, lambda rule: "" if rule.admin or rule.parents else none)
    if isinstance(request, Control | Care | Prune | Replay):
        kind = kind_of(request)
        return _least(rules, who, lambda rule: "" if rule.admin else f"does not allow {kind} (admin)")
    return _least(rules, who, lambda rule: _not_verb(rule, request))


def why_not_task(  # noqa: PLR0913 - one more than five
    settings: Settings, who: Who, request: Request, task: Task, parent: str, now: int
) -> str:
    """Why a writer may not do this to one task (of `parent`); empty where he may."""
    if who.trusted:
        return ""
    rules = rules_of(settings, who)
    if isinstance(request, Ack | Fail | Extend | Progress):
        return _least(rules, who, lambda rule: _not_answer(rule, parent))
    if not isinstance(request, Verb | Move):
        return ""
    own = is_own(who, task)
    return _least(rules, who, lambda rule: _not_on(rule, request, own=own, now=now))


def shed(state: State, actions: list[Action], now: Now) -> list[Action]:
    """Of a writer's refusals so many a day are kept and told; then his files go, and are counted."""
    if not any(isinstance(action, Refuse) for action in actions):
        return actions
    today = date_of(now.wall)
    if state.refusals_of != today:
        state.refusals_of, state.refusals = today, {}
    out: list[Action] = []
    for action in actions:
        who = action.source.who if isinstance(action, Refuse) else None
        if not isinstance(action, Refuse) or who is None or who.trusted:
            out.append(action)
            continue
        turn = turn_of(state.settings, who)
        number = state.refusals[turn] = state.refusals.get(turn, 0) + 1
        out.append(action if number <= KEPT else Drop(action.source))
        if number > KEPT and (number - KEPT - 1) % TOLD == 0:
            facts = {**action.source.by, "count": number - KEPT, "rule": action.reason.get("rule")}
            out.append(Note("shed", facts))
    return out


def may_tell(settings: Settings, who: Who, parent: str) -> bool:
    """Whether what a writer does may put an event into the outbox of a parent."""
    return who.trusted or any(
        rule.admin or _one_of((*rule.outboxes, *rule.parents), parent) for rule in rules_of(settings, who)
    )


def led(settings: Settings, who: Who, asked: Led, dropped: int) -> Led:
    """The same; an `at` before its drop, which passes what came meanwhile, is for who may go in front."""
    if who.trusted or asked.at is None or asked.at >= dropped:
        return asked
    ahead = replace(asked, front=True)
    if isinstance(ahead, Move):
        may = any(not _not_on(rule, ahead, own=True, now=dropped) for rule in rules_of(settings, who))
    else:
        may = not why_not_submit(settings, who, [ahead], dropped, 0)
    return asked if may else replace(asked, at=dropped)


def is_own(who: Who, task: Task) -> bool:
    """Whether a task is of this writer: of his key, else of his uid and of no key."""
    return task.signer == who.key and (who.key is not None or task.uid == who.uid)


def quota(settings: Settings, who: Who, name: str) -> int:
    """The most that any rule of a writer gives him of files, bytes or rate; 0 where he has none."""
    return max((int(getattr(rule, name)) for rule in rules_of(settings, who)), default=0)


def _least(rules: Iterable[Rule], who: Who, why_not: Callable[[Rule], str]) -> str:
    """Empty where one rule allows it, else what each of them says."""
    said = []
    for rule in rules:
        why = why_not(rule)
        if not why:
            return ""
        said.append(f'[policy."{rule.who}"] {why}')
    return f"{who.said}: {'; '.join(said)}" if said else f"{UNHEARD} {who.said}"


def _not_submit(rule: Rule, *, task: Task, priority: str | None, now: int) -> str:
    if task.task == RUN and not rule.run:
        return f"does not allow {RUN} (run)"
    if task.task != RUN and not _one_of(rule.tasks, task.task):
        return f"does not allow tasks named {task.task} (tasks)"
    if why := _not_class(rule, priority, task.deadline, front=task.front):
        return why
    if task.at - now > rule.ahead:
        return f"allows nothing further ahead than {format_span(rule.ahead)} (ahead)"
    if task.notify is not None and not _one_of(rule.outboxes, task.notify):
        return f"does not allow notify {task.notify} (outboxes)"
    return ""


def _not_verb(rule: Rule, request: Verb | Move) -> str:
    kind = kind_of(request)
    return "" if rule.admin or kind in rule.verbs else f"does not allow {kind} (verbs)"


def _not_on(rule: Rule, request: Verb | Move, *, own: bool, now: int) -> str:
    if rule.admin:
        return ""
    if not own:
        return "does not allow it about tasks of others (admin)"
    if isinstance(request, Move):
        if why := _not_class(rule, request.priority, request.deadline, front=bool(request.front)):
            return why
        if request.at is not None and request.at - now > rule.ahead:
            return f"allows nothing further ahead than {format_span(rule.ahead)} (ahead)"
    return _not_verb(rule, request)


def _not_answer(rule: Rule, parent: str) -> str:
    if rule.admin or _one_of(rule.parents, parent):
        return ""
    return f"does not allow answers for {parent} (parents)"


def _not_class(rule: Rule, priority: str | None, deadline: int | None, *, front: bool) -> str:
    if front and not rule.front:
        return "does not allow position front (front)"
    if _above(priority, rule.priority):
        return f"allows no higher priority than {rule.priority}"
    if deadline is not None and rule.priority != "high":
        return f"allows no deadline: it lifts to high, and {rule.priority} is the highest priority"
    return ""


def _above(wanted: str | None, most: str) -> bool:
    return wanted is not None and PRIORITIES.index(wanted) < PRIORITIES.index(most)


def _one_of(known: tuple[str, ...], name: str) -> bool:
    return any(matches(pattern, name) for pattern in known)
