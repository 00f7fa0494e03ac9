"""Many tasks to as few files as the limits allow, each task checked before any is written."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from spool.body import plain
from spool.errors import Invalid
from spool.fields import MAX_TASKS
from spool.names import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spool.signing import Key

    # A document, checked, in so many bytes at most and so many levels deep in another one.
    Encode = Callable[[dict[str, Any], int, int], bytes]

BATCH = 1000  # tasks in one file at most
OPEN, CLOSE = b'{"tasks":[', b"]}"
ENVELOPE = len(OPEN + CLOSE)
LEVELS = 2  # the object and the list round a task


def with_id(task: object, field: str) -> dict[str, Any]:
    """The fields of a task, its id among them, a new one where it has none. Invalid names `field`."""
    if not isinstance(task, Mapping):
        raise Invalid(field or "task", task, "must be an object with the fields of a task")
    if "id" not in task and not isinstance(task.get("files", {}), Mapping):
        rule = "must be an object, name -> path: these are copied"  # by other means only to a known id
        raise Invalid(f"{field}.files".lstrip("."), task["files"], rule)
    return {"id": new_id(), **task}


def batches(  # noqa: PLR0913 - what a client is
    tasks: Iterable[dict[str, Any]],
    then: dict[str, Any] | None,
    limit: int,
    encode: Encode,
    ids: list[str],
    key: Key | None = None,
) -> Iterator[bytes]:
    """The bytes of each file, at most `limit` each, in an envelope of `key` too; `ids` grows with them.

    Each task has its id. What belongs together, by `then` or by a `ref` among the first MAX_TASKS, is
    one file. Invalid names `tasks[N].field`, N counted over all of them.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, MAX_TASKS))
    if then is None and not any("ref" in task for task in first):
        yield from _parted(chain(first, tasks), limit, encode, ids, key)
        return
    if next(tasks, None) is not None:
        why = "with then" if then is not None else "where one has a ref: they are one batch"
        raise Invalid("tasks", None, f"must be at most {MAX_TASKS} {why}")
    doc = {"tasks": [plain(task) for task in first]} | ({"then": plain(then)} if then else {})
    yield encode(doc, limit, 0)
    ids += [task["id"] for task in (*first, *((then,) if then else ()))]


def _parted(
    tasks: Iterable[dict[str, Any]], limit: int, encode: Encode, ids: list[str], key: Key | None
) -> Iterator[bytes]:
    bodies: list[bytes] = []
    weight, room = (len, limit) if key is None else (key.weight, limit - key.room)
    size = ENVELOPE
    seen: set[tuple[str, str]] = set()
    for index, doc in enumerate(tasks):
        body = _body(doc, index, limit - ENVELOPE, encode)
        for name in {"id", "key"} & doc.keys():
            if (name, doc[name]) in seen:
                raise Invalid(f"tasks[{index}].{name}", doc[name], "must not occur twice")
            seen.add((name, doc[name]))
        weighs = weight(body)
        if bodies and (len(bodies) >= BATCH or size + weighs > room):
            yield OPEN + b",".join(bodies) + CLOSE
            bodies, size = [], ENVELOPE
        bodies.append(body)
        size += weighs + 1
        ids.append(doc["id"])
    if bodies:
        yield OPEN + b",".join(bodies) + CLOSE


def _body(doc: dict[str, Any], index: int, limit: int, encode: Encode) -> bytes:
    for name in ("action", "tasks", "every"):
        if name in doc:
            raise Invalid(f"tasks[{index}].{name}", None, "must not stand in a task of a batch")
    try:
        return encode(plain(doc), limit, LEVELS)
    except Invalid as problem:
        field = f"tasks[{index}].{problem.field}"
        raise Invalid(field, problem.value, problem.rule, problem.near) from None
