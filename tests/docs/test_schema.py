"""The schemas that are handed out are those of the code, and what a live spool writes fits them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from spool import eventschema, records
from spool.names import EVENTS
from tests.docs.test_manual import tool
from tests.e2e.live import Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Validator = jsonschema.Draft202012Validator


@pytest.mark.parametrize("name", ["actions", "event"])
def test_a_committed_schema_is_that_of_the_code(name: str) -> None:
    schema = tool("schema")
    assert schema.path(name).read_text() == schema.text(name), "run tools/schema.py --write"
    Validator.check_schema(json.loads(schema.text(name)))


PUT_OFF = """
from spool import Snooze, current, task
@task("put.off")
def off():
    if current().attempt == 1:
        raise Snooze(after=0)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """All records and events of a run in which nearly everything happens."""
    place = tmp_path_factory.mktemp("schema")
    toml = "".join(
        [
            "backoff = 0\npoison_after = 2\n",
            handler("good.*", "echo '{\"n\": 1}' > $SPOOL_RESULT; echo hello"),
            handler("bad.*", "echo no; exit 1", retries=1),
            handler("gone.*", "exec sleep 60", timeout="0.1s", retries=0),
            handler("slow.*", "echo >> $NOTES/slow; exec sleep 60"),
            handler("order.*", notify="shop", timeout="1m"),
            handler("put.*", python="put", cwd=str(place)),
            handler("tick", "true"),
            '[recurring.tick]\nevery = "1s"\ntask = "tick"\n',
        ]
    )
    (place / "put.py").write_text(PUT_OFF)
    live = Live(place, toml).start()
    try:
        yield _everything(live)
    finally:
        live.close()


def _everything(live: Live) -> list[dict[str, Any]]:
    live.submit("good.one", meta={"a": 1}, version="1.2", args=[1, None])
    live.submit("bad.one")
    live.submit("gone.one")
    put = live.submit("put.off")
    slow = live.submit("slow.one", deadline="+0.1s")
    order, other = live.submit("order.ship"), live.submit("order.ship")
    waits = live.submit("good.two", at="+1d", deadline="+2d", key="k")
    live.submit("good.two", key="k")
    live.drop({"task": "good.one", "prioritty": "high"})
    _seen(live, f"outbox/shop/*,{order},*,ready.json")
    _seen(live, f"outbox/shop/*,{other},*,ready.json")
    live.drop({"action": "progress", "id": order, "attempt": 1, "percent": 40, "note": "packing"})
    _seen(live, f"outbox/shop/*,{order},*,progress.json")
    live.drop({"action": "ack", "id": order, "attempt": 1, "result": {"parcel": 77}})
    live.drop({"action": "fail", "id": other, "attempt": 1, "error": "no stock", "retry": False})
    _seen(live, f"outbox/default/*,{slow},*,late.json")
    for name in ("shop/*,done", "shop/*,failed", "default/*,good.one,done", "default/*,bad.one,failed",
                 "default/*,gone.one,failed", "default/*,rejected"):  # fmt: skip
        _seen(live, f"outbox/{name}.json")
    _seen(live, f"outbox/default/*,{put},*,done.json")
    _seen(live, "outbox/default/*,tick,done.json")
    _begun(live, 1)
    live.kill9()
    live.start()
    _begun(live, 2)
    live.kill9()
    live.start()
    _seen(live, f"outbox/default/*,{slow},*,recurring-error.json")
    live.verb("cancel", slow, waits)
    for name in ("slow.one", "good.two"):
        _seen(live, f"outbox/default/*,{name},cancelled.json")
    paths: list[Path] = [*live.root.glob("attempts/*/*.json"), *live.root.glob("outbox/*/*.json")]
    return [json.loads(path.read_bytes()) for path in paths]


def _begun(live: Live, times: int) -> None:
    """What a kill finds in running/ and not begun is not lost."""
    note = live.notes / "slow"
    until(lambda: note.exists() and note.stat().st_size == times, f"slow.one has begun {times} times")


def _seen(live: Live, pattern: str) -> None:
    until(lambda: any(live.root.glob(pattern)), pattern)


def test_what_a_run_writes_fits_the_schema(told: list[dict[str, Any]]) -> None:
    validator = Validator(eventschema.build())
    for one in told:
        validator.validate(one)


def test_the_schema_knows_every_field_a_run_writes(told: list[dict[str, Any]]) -> None:
    known = set(eventschema.build()["properties"])
    assert {name for one in told for name in one} == known


def test_a_run_tells_every_event_and_outcome(told: list[dict[str, Any]]) -> None:
    """So that the two tests above have looked at all of them."""
    assert {one["event"] for one in told} == set(EVENTS)
    seen = {one["outcome"] for one in told if one["outcome"]}
    assert seen == set(records.OUTCOMES)


def test_a_refusal_has_the_fields_of_an_attempt(told: list[dict[str, Any]]) -> None:
    """So that a parent may read all events as one type."""
    fields = set.intersection(*(set(one) for one in told if one["event"] != "rejected"))
    refused = [one for one in told if one["event"] == "rejected"]
    assert refused
    for one in refused:
        assert fields - set(one) == {"class", "entry", "passed"}


def test_an_event_without_its_fields_does_not_fit(told: list[dict[str, Any]]) -> None:
    validator = Validator(eventschema.build())
    for one in told:
        for name in eventschema.build()["required"]:
            broken = {key: value for key, value in one.items() if key != name}
            assert not validator.is_valid(broken), (one["event"], name)
