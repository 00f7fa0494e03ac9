"""Each step of the store, and its place in the order, is needed: without it some power cut breaks a promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spoold.core.values import Now
from tests.crash.everywhere import Fault, play, steps
from tests.crash.scenarios import STORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from spoold.effects.group import Group
    from spoold.effects.store import Store

NAMES = (
    "stage", "know", "journal", "log", "establish",
    "sync dirs", "leave", "sync dirs again", "announce", "clear",
)  # fmt: skip
SEEDS = 16
FOREVER = 1 << 60  # us


def order(*names: str) -> Callable[[Store], None]:
    """A store that does its steps in this order."""

    def change(store: Store) -> None:
        known = dict(zip(NAMES, store._steps, strict=True))
        store._steps = tuple(known[name] for name in names)
        store.established = names.index("establish") + 1

    return change


def without(*gone: str) -> Callable[[Store], None]:
    """A store that leaves steps out."""
    return order(*(name for name in NAMES if name not in gone))


def moved(name: str, *, before: str) -> Callable[[Store], None]:
    """A store that does one step earlier than it should."""
    rest = [n for n in NAMES if n != name]
    at = rest.index(before)
    return order(*rest[:at], name, *rest[at:])


def quiet(*, files: bool = False, dirs: bool = False) -> Callable[[Store], None]:
    """A store whose fsync of files, or of directories, does nothing."""

    def change(store: Store) -> None:
        class Lying:
            def __getattr__(self, name: str) -> object:
                return getattr(below, name)

            def sync(self, paths: object, names: object = ()) -> None:
                below.sync(() if files else paths, () if dirs else names)

            def sync_dirs(self, paths: object) -> None:
                return None if dirs else below.sync_dirs(paths)

        below = store.disk
        store.disk = Lying()  # type: ignore[assignment]

    return change


def without_stage_dir(store: Store) -> None:
    """A store that syncs what is staged, but not the names it is staged under."""

    def sync(group: object, now: int) -> None:
        if group.files:  # type: ignore[attr-defined]
            store.disk.sync(group.files)  # type: ignore[attr-defined]

    store._steps = tuple(sync if s == store._log else s for s in store._steps)


MUTANTS: dict[str, tuple[Callable[[Store], None], tuple[str, ...]]] = {
    "no fsync of what is staged": (quiet(files=True), ("take in", "fail and try again")),
    "no fsync of directories": (quiet(dirs=True), ("take in", "fail and try again")),
    "step 4 left out": (without("log"), ("take in", "fail and try again")),
    "step 4 without the names": (without_stage_dir, ("a parent does the work", "give up")),
    "names not synced after 5": (without("sync dirs"), ("take in", "give up", "cancel")),
    "names not synced after 6": (without("sync dirs again"), ("give up", "cancel", "refusal")),
    "step 3 left out": (without("journal"), ("take in",)),
    "step 8 left out": (without("clear"), ("take in", "cancel")),
    "known after it is synced": (moved("log", before="know"), ("take in", "batch")),
    "established before it is synced": (moved("establish", before="log"), ("take in", "give up")),
    "left before it is on record": (moved("leave", before="establish"), ("give up", "cancel")),
    "announced before it has left": (
        moved("announce", before="leave"), ("give up", "cancel", "fail and try again")),
    "announced before it is on record": (
        moved("announce", before="establish"), ("give up", "fail and try again")),
    "cleared before it is established": (moved("clear", before="establish"), ("a word before the end",)),
    "cleared before it is synced": (moved("clear", before="sync dirs"), ("cancel a process",)),
}  # fmt: skip


def silent(store: Store) -> None:
    """A store that does without the log, and without syncs."""
    store._log = lambda group, now: None  # type: ignore[method-assign, assignment]
    store._steps = tuple(s for s in store._steps if s.__name__ not in ("_log", "_sync_dirs"))
    store.established = 4


def hasty(store: Store) -> None:
    """A store that says a group is done when it is only logged."""
    log = store._log

    def early(group: Group, now: int) -> None:
        log(group, now)
        if store.redo is not None:
            store.redo.done()
            store.redo.step(Now(now, FOREVER))
            store.redo.step(Now(now, FOREVER))

    store._steps = tuple(early if s == store._log else s for s in store._steps)


LOGGED: dict[str, tuple[Callable[[Store], None], tuple[str, ...]]] = {
    "no log": (silent, ("take in", "give up")),
    "known after it is logged": (moved("log", before="know"), ("batch", "take in and claim at once")),
    "established before it is logged": (
        moved("establish", before="log"),
        ("take in", "give up", "batch"),
    ),
    "announced before it is logged": (moved("announce", before="log"), ("give up", "fail and try again")),
    "cleared before it is logged": (moved("clear", before="log"), ("take in", "a word before the end")),
    "safe before it is done": (hasty, ("take in", "give up", "batch")),
}


def caught(
    change: Callable[[Store], None], stories: tuple[str, ...], *, redo: bool, seeds: int = SEEDS
) -> str:
    """What notices this change: nothing, a plain run, a crash, or a power cut."""
    for story in stories:
        try:
            play(story, Fault(n=1 << 30), hook=change, redo=redo)
        except Exception as problem:
            return f"a plain run: {problem}"
        count = steps(story, redo=redo) + 2
        for cut in (None, *range(seeds)):  # all steps with one seed, then with the next
            for n in range(count):
                try:
                    play(story, Fault(n=n, cut=cut), hook=change, redo=redo)
                except Exception as problem:
                    return f"n {n}, cut {cut}: {problem}"
    return ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_store_with_one_step_wrong_breaks_a_promise(name: str) -> None:
    assert caught(*MUTANTS[name], redo=False), f"nothing notices: {name}"


@pytest.mark.parametrize("name", LOGGED)
def test_a_log_that_is_used_wrongly_breaks_a_promise(name: str) -> None:
    assert caught(*LOGGED[name], redo=True), f"nothing notices: {name}"


def test_the_store_as_it_is_passes_the_same_stories() -> None:
    for redo in (False, True):
        assert not caught(order(*NAMES), ("fail and try again",), redo=redo, seeds=3)
    assert set(NAMES[:3]) <= set(NAMES)
    assert all(story in STORIES for _, stories in MUTANTS.values() for story in stories)
