"""Args that name what other tasks came to: `{"$result": TASK, "path": "a.b.0"}` for a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from spool.errors import Invalid
from spool.strict import label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESULT = "$result"
NEEDLE = b'"$result"'  # args whose JSON does not hold it name no result
MAX_RESULTS = 1000  # references in the args of one task
NONE = object()  # the result of a task that is not done: null, whatever the path
_NUMBER = re.compile("[0-9]{1,9}")
_FIELDS = {RESULT, "path"}
_PATH = "must be text such as url or rows.0.id, or a list of names and numbers"


def result(task_id: str, path: str | list[str | int] | None = None) -> Any:
    """The value of an argument that is to be the result of another task, or what stands at its path.

    `path`: names of fields and, in lists, numbers from 0 on, with dots between them; a list where
    a name has a dot in it. None: the whole result. Typed as Any, to stand for any argument.
    """
    return {RESULT: task_id} if path is None else {RESULT: task_id, "path": path}


def named(args: Any) -> tuple[str, ...]:
    """The tasks whose results are named, each once, in their order; Invalid where one is named badly."""
    found: list[str] = []

    def note(reference: dict[str, Any], where: str) -> None:
        _check(reference, where)
        found.append(reference[RESULT])

    swapped(args, note, "args")
    if len(found) > MAX_RESULTS:
        raise Invalid("args", None, f"must name at most {MAX_RESULTS} results, not {len(found)}")
    return tuple(dict.fromkeys(found))


def renamed(args: Any, ids: Mapping[str, str]) -> Any:
    """The same args with ids in place of refs."""
    return swapped(args, lambda one, _: {**one, RESULT: ids.get(one[RESULT], one[RESULT])}, "args")


def swapped(value: Any, give: Callable[[dict[str, Any], str], Any], where: str) -> Any:
    """A copy in which `give(reference, where it stands)` stands in place of each reference."""
    if isinstance(value, dict):
        if RESULT in value:
            return give(value, where)
        return {name: swapped(one, give, f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, list):
        return [swapped(one, give, f"{where}[{i}]") for i, one in enumerate(value)]
    return value


def at(value: Any, path: str | list[str | int] | None) -> Any:
    """What stands at a path in a result; LookupError names the step that leads nowhere."""
    if value is NONE:
        return None
    steps = path.split(".") if isinstance(path, str) else path or []
    for step in map(str, steps):
        index = int(step) if isinstance(value, list) and _NUMBER.fullmatch(step) else step
        try:
            value = value[index]
        except (LookupError, TypeError):
            raise LookupError(step) from None
    return value


def _check(reference: dict[str, Any], where: str) -> None:
    where = where if where.isprintable() else label(where)
    if not isinstance(reference[RESULT], str):
        raise Invalid(f"{where}.{RESULT}", None, "must be an id, or the ref of a task of the batch")
    if strange := sorted(reference.keys() - _FIELDS):
        rule = f"stands beside {RESULT}, which goes with path and nothing else"
        raise Invalid(f"{where}.{label(strange[0])}", None, rule)
    path = reference.get("path", "x")
    steps = path.split(".") if isinstance(path, str) else path
    if not isinstance(steps, list) or not steps or not all(map(_is_step, steps)):
        raise Invalid(f"{where}.path", None, _PATH)


def _is_step(step: object) -> bool:
    return (isinstance(step, str) and step != "") or (type(step) is int and step >= 0)
