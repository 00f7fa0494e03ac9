"""Many tasks to as few files as the limits allow, each task checked before any is written."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from spool.body import plain
from spool.errors import Invalid
from spool.fields import MAX_TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Encode = Callable[[dict[str, Any], int], bytes]  # a document, checked, in so many bytes at most

BATCH = 1000  # tasks in one file at most
OPEN, CLOSE = b'{"tasks":[', b"]}"
ENVELOPE = len(OPEN + CLOSE)


def batches(
    tasks: Iterable[dict[str, Any]],
    then: dict[str, Any] | None,
    limit: int,
    encode: Encode,
    ids: list[str],
) -> Iterator[bytes]:
    """The bytes of each file, at most `limit` each; `ids` grows as they are made.

    Each task has its id. What belongs together, by `then` or by a `ref` among the first MAX_TASKS, is
    one file. Invalid names `tasks[N].field`, N counted over all of them.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, MAX_TASKS))
    if then is None and not any("ref" in task for task in first):
        yield from _parted(chain(first, tasks), limit, encode, ids)
        return
    if next(tasks, None) is not None:
        why = "with then" if then is not None else "where one has a ref: they are one batch"
        raise Invalid("tasks", None, f"must be at most {MAX_TASKS} {why}")
    doc = {"tasks": [plain(task) for task in first]} | ({"then": plain(then)} if then else {})
    yield encode(doc, limit)
    ids += [task["id"] for task in (*first, *((then,) if then else ()))]


def _parted(
    tasks: Iterable[dict[str, Any]], limit: int, encode: Encode, ids: list[str]
) -> Iterator[bytes]:
    bodies: list[bytes] = []
    size = ENVELOPE
    seen: set[tuple[str, str]] = set()
    for index, doc in enumerate(tasks):
        body = _body(doc, index, limit - ENVELOPE, encode)
        for name in {"id", "key"} & doc.keys():
            if (name, doc[name]) in seen:
                raise Invalid(f"tasks[{index}].{name}", doc[name], "must not occur twice")
            seen.add((name, doc[name]))
        if bodies and (len(bodies) >= BATCH or size + len(body) > limit):
            yield OPEN + b",".join(bodies) + CLOSE
            bodies, size = [], ENVELOPE
        bodies.append(body)
        size += len(body) + 1
        ids.append(doc["id"])
    if bodies:
        yield OPEN + b",".join(bodies) + CLOSE


def _body(doc: dict[str, Any], index: int, limit: int, encode: Encode) -> bytes:
    for name in ("action", "tasks", "every"):
        if name in doc:
            raise Invalid(f"tasks[{index}].{name}", None, "must not stand in a task of a batch")
    try:
        return encode(plain(doc), limit)
    except Invalid as problem:
        field = f"tasks[{index}].{problem.field}"
        raise Invalid(field, problem.value, problem.rule, problem.near) from None
