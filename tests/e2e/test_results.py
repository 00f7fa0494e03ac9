"""Results for others: what one task came to stands in the args of the next, whoever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spool.names import new_id
from tests.e2e.live import Live, handler

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Live]

GIVE = handler("give", """echo '{"url": "u", "rows": [1, 2]}' > $SPOOL_RESULT""")
TAKE = handler("take", "cat > $SPOOL_RESULT")
BAD = handler("bad", "exit 1", retries=0)
ORDER = handler("order", notify="shop")
PY = """
from spool import task

@task("py.add")
def add(a: int, b: int) -> dict[str, int]:
    return {"sum": a + b}
"""


def given(name: str, path: str | None = None) -> dict[str, Any]:
    return {"$result": name} if path is None else {"$result": name, "path": path}


def test_programs_functions_and_parents_are_given_what_others_came_to(live: Make) -> None:
    spool = live(GIVE + TAKE + BAD + ORDER)
    app = spool.place / "app"
    app.mkdir()
    (app / "adding.py").write_text(PY)
    spool.settings(GIVE + TAKE + BAD + ORDER + handler("py.*", python="adding", cwd=str(app)))
    ids = {name: new_id() for name in ("a", "sum", "bad", "take", "order")}
    bodies: list[dict[str, Any]] = [
        {"task": "take", "id": ids["take"], "after": ["bad"], "on_failure": "run",
         "args": {"n": given("sum", "sum"), "all": given("a"), "bad": given("bad", "x")}},
        {"task": "py.add", "ref": "sum", "id": ids["sum"],
         "args": {"a": given("a", "rows.0"), "b": given("a", "rows.1")}},
        {"task": "give", "ref": "a", "id": ids["a"]},
        {"task": "bad", "ref": "bad", "id": ids["bad"]},
        {"task": "order", "id": ids["order"], "args": [given("a", "url"), "as it is"]},
    ]  # fmt: skip
    spool.drop({"tasks": bodies})
    want = {"n": 3, "all": {"url": "u", "rows": [1, 2]}, "bad": None}
    told = spool.end(ids["take"])
    assert (told["event"], told["result"], told["args"]) == ("done", want, want)
    assert spool.event("ready", ids["order"], "shop")["args"] == ["u", "as it is"]


def test_results_that_are_more_than_a_round_reads_are_all_put_in(live: Make) -> None:
    big = handler("big", """printf '{"n": 7, "fill": "%0700000d"}' 0 > $SPOOL_RESULT""")
    spool = live(big + TAKE)
    ids = [spool.submit("big") for _ in range(4)]
    last = spool.submit("take", args=[given(one, "n") for one in ids])
    assert spool.end(last)["result"] == [7] * 4


def test_a_result_that_is_not_there_fails_the_task_at_once_and_says_what_is_missing(live: Make) -> None:
    spool = live(GIVE + TAKE)
    first = spool.submit("give")
    last = spool.submit("take", args={"x": given(first, "rows.7")}, retries=9)
    told = spool.end(last)
    assert (told["event"], told["attempt"], told["error"]["type"]) == ("failed", 1, "result")
    assert told["error"]["message"] == f"args.x: the result of {first} has no rows.7 (nothing at 7)"
    spool.do({"action": "retry", "ids": [last]})
    spool.entry(last, "failed", where=lambda entry: entry.attempt == 3)  # it came again, failed again
    reason = spool.refusal(spool.drop({"task": "take", "args": [given("nobody")]}))
    assert (reason["field"], "no ref" in reason["rule"]) == ("args", True)


def test_a_killed_daemon_gives_the_same_results_again(live: Make) -> None:
    spool = live("concurrency = 2\n" + GIVE + TAKE)
    chain = [{"task": "give", "ref": "t0"}]
    chain += [{"task": "take", "ref": f"t{n}", "args": given(f"t{n - 1}", "rows")} for n in (1,)]
    chain += [{"task": "take", "ref": f"t{n}", "args": given(f"t{n - 1}")} for n in range(2, 8)]
    ids = spool.submit_all(chain)
    for done in (1, 4):
        spool.entry(ids[done], "done")
        spool.kill9()
        spool.start()
    assert spool.end(ids[-1])["result"] == [1, 2]
    records = [r for task_id in ids[2:] for r in spool.records(task_id)]
    assert len(records) >= 6
    assert all(record["args"] == [1, 2] for record in records)  # of those that were cut off as well
