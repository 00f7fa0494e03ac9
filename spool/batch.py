"""Many tasks to as few files as the limits allow, each task checked before any is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.body import encoded, plain
from spool.errors import Invalid
from spool.names import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BATCH = 1000  # tasks in one file at most
OPEN, CLOSE = b'{"tasks":[', b"]}"
ENVELOPE = len(OPEN + CLOSE)


def batches(tasks: Iterable[Mapping[str, Any]], limit: int, now: int, ids: list[str]) -> Iterator[bytes]:
    """The bytes of each file, at most `limit` each; `ids` grows as they are made. `now`: us UTC.

    Invalid names `tasks[N].field`, N counted over all of them.
    """
    bodies: list[bytes] = []
    size = ENVELOPE
    seen: set[str] = set()
    for index, given in enumerate(tasks):
        doc = {"id": new_id(), **given}
        body = _body(doc, index, limit - ENVELOPE, now)
        if doc["id"] in seen:
            raise Invalid(f"tasks[{index}].id", doc["id"], "must not occur twice")
        seen.add(doc["id"])
        if bodies and (len(bodies) >= BATCH or size + len(body) > limit):
            yield OPEN + b",".join(bodies) + CLOSE
            bodies, size = [], ENVELOPE
        bodies.append(body)
        size += len(body) + 1
        ids.append(doc["id"])
    if bodies:
        yield OPEN + b",".join(bodies) + CLOSE


def _body(doc: dict[str, Any], index: int, limit: int, now: int) -> bytes:
    for name in ("action", "tasks"):
        if name in doc:
            raise Invalid(f"tasks[{index}].{name}", None, "must not stand in a task of a batch")
    try:
        return encoded(plain(doc), limit, now)
    except Invalid as problem:
        field = f"tasks[{index}].{problem.field}"
        raise Invalid(field, problem.value, problem.rule, problem.near) from None
