"""What is too much goes, and no more than that: the oldest first, its handler's limits before its state's."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spool.prune.retention import SPAN, Excess
from spool.settings import load

DAY = 86_400_000_000
TASKS = st.lists(
    st.tuples(
        st.sampled_from(["done", "failed"]),
        st.sampled_from(["beat", "mail.a", "mail.b"]),
        st.one_of(st.integers(0, 3 * SPAN), st.integers(0, DAY)),
        st.integers(0, 5),
    ),
    max_size=60,
)
LIMIT = st.one_of(st.none(), st.integers(0, 30))
HANDLERS = '[handlers."beat"]\nexec = ["x"]\n%s[handlers."mail.*"]\nexec = ["x"]\n'


def table(count: int | None, size: int | None) -> str:
    parts = [f"{name} = {n}" for name, n in (("count", count), ("bytes", size)) if n is not None]
    return "{ " + ", ".join(parts) + " }"


def gone(toml: str, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
    """(what stays, what goes)."""
    excess = Excess(load(toml))
    for task in tasks:
        excess.tell(*task)
    excess.decide()
    kept, taken = [], []
    for task in tasks:
        (taken if excess.takes(*task[:3]) else kept).append(task)
    assert excess.left == 0
    return kept, taken


@given(TASKS, LIMIT, LIMIT)
def test_exactly_what_a_handler_may_keep_is_kept(
    tasks: list[Any], count: int | None, size: int | None
) -> None:
    kept, taken = gone(HANDLERS % f"keep = {table(count, size)}\n", tasks)
    beats = [t for t in kept if t[1] == "beat"]
    lost = [t for t in taken if t[1] == "beat"]
    assert lost == taken, "nobody else's go"
    if count is not None and size is None:
        assert len(beats) == min(count, len(beats) + len(lost))
    if count is None and size is None:
        assert not lost
    if beats and lost:
        assert max(t[2] // SPAN for t in lost) <= min(t[2] // SPAN for t in beats)


@given(TASKS, st.integers(0, 30), st.integers(0, 30))
def test_a_state_keeps_as_many_as_it_may_after_its_handlers_have(
    tasks: list[Any], own: int, whole: int
) -> None:
    toml = f"keep_done = {table(whole, None)}\n" + HANDLERS % f"keep = {table(own, None)}\n"
    kept, _ = gone(toml, tasks)
    before = Counter(t[1] for t in tasks)
    beats = min(own, before["beat"])
    assert sum(t[1] == "beat" for t in kept) <= beats
    done = sum(t[0] == "done" for t in kept)
    assert done <= whole
    if sum(t[0] == "done" for t in tasks) <= whole:
        assert sum(t[1] == "beat" for t in kept) == beats
    assert [t for t in tasks if t[0] == "failed" and t[1] != "beat"] == [
        t for t in kept if t[0] == "failed" and t[1] != "beat"
    ]


@given(TASKS, st.integers(0, 100))
def test_bytes_come_down_to_the_limit_in_a_few_passes(tasks: list[Any], size: int) -> None:
    """Within ten minutes sizes are reckoned as their mean: the next pass sees to the rest."""
    for _ in range(12):
        tasks, taken = gone(HANDLERS % f"keep = {table(None, size)}\n", tasks)
        if not taken:
            break
    assert sum(t[3] for t in tasks if t[1] == "beat") <= size
