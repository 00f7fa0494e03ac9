"""How an attempt has ended, as a message: results, outcomes and exceptions in words."""

from __future__ import annotations

import inspect
import math
import os
import sys
import time
import traceback
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from spool.errors import Invalid
from spool.machine import zone_of
from spool.strict import check_depth
from spool.tasks.outcomes import Cancelled, Fail, Retry, Snooze, SoftTimeout
from spool.times import parse_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from spool.tasks import Task

MESSAGE, TRACE, KIND = 10_000, 65_536, 200  # characters, as in a fail action
OUTCOMES = Retry | Fail | Snooze | Cancelled
End = dict[str, Any]


class Times(NamedTuple):
    """How the times of an outcome are read: seconds since 1970 of `now`, and the zone of local ones."""

    now: Callable[[], float] = time.time
    zone: str = ""


def result_end(value: Any, limit: int, times: Times) -> End:
    """What a function has returned: its result, or an outcome as a value."""
    if isinstance(value, OUTCOMES):
        return raised(value, None, times)
    if value is None:
        return {"outcome": "done"}
    try:
        data = orjson.dumps(value, default=_struct)
    except (TypeError, ValueError, RecursionError) as problem:
        return _bad_result(f"the result is not JSON: {said(problem)}{_slip(value)}")
    wrong = _wrong(value, data, limit)
    return _bad_result(wrong) if wrong else {"outcome": "done", "result": orjson.Fragment(data)}


def _wrong(value: Any, data: bytes, limit: int) -> str | None:
    """Why a result that could be written is none all the same."""
    if len(data) > limit:
        return f"the result is {len(data)} bytes, result_limit is {limit}"
    if b"null" in data and has_nan(value):
        return "the result is not JSON: it holds NaN or infinity"
    try:
        check_depth(data, "result")
    except Invalid as problem:
        return f"the result is refused: {problem}"
    return None


def _slip(value: Any) -> str:
    """What somebody most likely meant whose function has returned this."""
    if isinstance(value, type) and issubclass(value, OUTCOMES):
        return f"; return {value.__name__}(), not the class"
    if inspect.iscoroutine(value):
        value.close()
        return "; if the function is an async def, a decorator below @task hides that"
    return ""


def _struct(value: Any) -> Any:
    if hasattr(value, "__struct_fields__"):
        return msgspec.to_builtins(value)
    if isinstance(value, tuple):
        return tuple(value)  # a named one
    raise TypeError(f"{type(value).__name__} is no JSON")


def has_nan(value: Any) -> bool:
    """Whether there is NaN or infinity in what orjson writes of a value: null, for both."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_nan, value))
    if isinstance(value, Enum):
        return has_nan(value.value)
    fields = ("__dataclass_fields__", "__struct_fields__")
    names = [name for one in fields for name in getattr(value, one, ()) if not name.startswith("_")]
    return any(has_nan(getattr(value, name, None)) for name in names)


def _bad_result(text: str) -> End:
    return failure(error("result", text), final=True)


def raised(problem: BaseException, task: Task[..., Any] | None, times: Times) -> End:
    """What a function has raised."""
    try:
        return _raised(problem, task, times)
    except ValueError as wrong:  # of a duration or an instant in the outcome itself
        kind = type(problem).__name__
        return failure(error(kind, f"{kind}: {said(wrong)}", trace(problem)))


def _raised(problem: BaseException, task: Task[..., Any] | None, times: Times) -> End:
    match problem:
        case Retry():
            delay = None if problem.after is None else _span(problem.after)
            return failure(error("Retry", problem.reason), delay=delay)
        case Fail():
            return failure(error("Fail", problem.reason), final=True)
        case Snooze():
            reason = error("Snooze", problem.reason) if problem.reason else None
            delay = None if problem.after is None else _span(problem.after)
            until = None if problem.until is None else _instant(problem.until, times)
            return {"outcome": "snoozed", "delay": delay, "until": until, "error": reason}
        case Cancelled():
            return {"outcome": "cancelled", "error": error("Cancelled", problem.reason)}
        case SoftTimeout():
            text = problem.reason or "raised by the task itself"
            return {**failure(error("timeout", text, trace(problem))), "outcome": "timeout"}
        case _:
            return failure(caught(problem), final=_is_final(problem, task))


def _is_final(problem: BaseException, task: Task[..., Any] | None) -> bool:
    """Whether the policy of a task says that another attempt is of no use."""
    if task is None:
        return False
    policy = task.policy
    if isinstance(problem, policy.fail_on):
        return True
    return policy.retry_on is not None and not isinstance(problem, policy.retry_on)


def _span(value: Any) -> int:
    """A wait in us; what was to be over by now is over."""
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else value
    try:
        return parse_duration(max(seconds, 0) if isinstance(seconds, int | float) else seconds)
    except ValueError as rule:
        raise ValueError(f"after `{value}`: {rule}") from None


def _instant(when: Any, times: Times) -> int:
    now = int(times.now() * 1e6)
    if hasattr(when, "isoformat"):
        when = when.isoformat()
    try:
        return parse_time(when, now_us=now, zone=zone_of(times.zone), base_us=now)
    except ValueError as rule:
        raise ValueError(f"until `{when}`: {rule}") from None


def leave(problem: BaseException | None) -> NoReturn:
    """A child that a task has forked comes out of its function: it ends as a program does."""
    status: Any = 0 if problem is None else 1
    try:
        if isinstance(problem, SystemExit):
            status = 0 if problem.code is None else problem.code
            if not isinstance(status, int):
                print(status, file=sys.stderr)
                status = 1
        elif problem is not None:
            print(trace(problem), end="", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def failure(problem: dict[str, Any], *, final: bool = False, delay: int | None = None) -> End:
    """A failed attempt."""
    return {"outcome": "failed", "error": problem, "final": final, "delay": delay}


def caught(problem: BaseException) -> dict[str, Any]:
    """An exception as the error of a record."""
    return error(type(problem).__name__, said(problem), trace(problem))


def error(kind: str, message: str, shown: str | None = None) -> dict[str, Any]:
    """The error of a record, within the limits of a `fail` action."""
    return {
        "type": _text(kind, KIND),
        "message": _text(message, MESSAGE),
        "trace": None if shown is None else _text(shown, TRACE, end=True),
        "fingerprint": None,
    }


def said(problem: BaseException) -> str:
    """What an exception says, even where its str() raises."""
    try:
        return str(problem)
    except BaseException as second:  # noqa: BLE001 - whatever a stranger's __str__ does
        return f"(its str() raised {type(second).__name__})"


def trace(problem: BaseException) -> str:
    """The traceback, without the frames of the worker itself."""
    try:
        told = traceback.TracebackException.from_exception(problem, compact=True)
        while told.stack and "/spool/worker/" in told.stack[0].filename:
            del told.stack[0]
        return "".join(told.format())
    except BaseException as second:  # noqa: BLE001 - as above
        return f"(its traceback cannot be shown: {type(second).__name__})"


def _text(value: Any, limit: int, *, end: bool = False) -> str:
    """Text of at most so many characters that JSON can hold."""
    text = str(value).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    return "..." + text[3 - limit :] if end else text[: limit - 3] + "..."
