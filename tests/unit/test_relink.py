"""Names in ids/ that somebody has deleted are made again of the entries, wherever that is cut off."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from spool import fsck, layout, look
from spool.disk import DiskFull
from spool.names import Entry, new_id
from spool.settings import load
from spoold.core.state import State
from spoold.core.values import Now
from spoold.effects.store import Store
from spoold.loop import CATCHING_UP, Loop
from spoold.sources import relink
from spoold.sources.relink import Relink

if TYPE_CHECKING:
    from spool.disk import RealDisk

NOW = 1_795_240_000_000_000
DAY = 86_400_000_000


def stand(disk: RealDisk, path: str) -> str:
    disk.make_dir(layout.parent_of(path))
    disk.write(path, b"{}")
    return path


def spool(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> tuple[State, list[str]]:
    """Entries in all states, of ids of three days, and none of them in ids/."""
    monkeypatch.setattr(relink, "SLICE", 1)
    made = [Entry(time=NOW, id=new_id(NOW - n % 3 * DAY), task="t.x") for n in range(12)]
    places = [layout.pending, layout.held, lambda e: layout.running("n1", e)]
    places += [lambda e, s=s: layout.ended(s, NOW, e) for s in layout.ENDED]
    for number, entry in enumerate(made):
        stand(disk, places[number % len(places)](entry))
    stand(disk, "held/no-entry.json")
    disk.make_dir(f"held/{layout.held(made[0]).partition('/')[2].replace(made[0].id, new_id(NOW))}")
    shutil.rmtree(f"{disk.root}/{layout.IDS}")
    return State("n1", load(""), 1), [entry.id for entry in made]


def finish(one: Relink) -> None:
    while one.busy:
        one.step()


def test_all_that_stands_gets_its_name_again(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    state, ids = spool(disk, monkeypatch)
    assert all(look.is_known(disk, one) for one in ids)
    refused = stand(disk, f"running/n1/.default,20261123T120000.000000Z,{new_id()},t.x,rejected.json")
    assert not look.is_known(disk, refused.split(",")[2])
    one = Relink(disk, state)
    assert state.relinking
    finish(one)
    assert not state.relinking
    assert all((info := disk.info(layout.own_copy(i))) and info.nlink == 2 for i in ids)
    assert disk.info(layout.RELINK) is None
    one.look()
    assert not one.busy


@pytest.mark.parametrize("steps", range(0, 30, 3))
def test_what_was_cut_off_is_gone_on_with(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    state, ids = spool(disk, monkeypatch)
    one = Relink(disk, state)
    for _ in range(steps):
        one.step()
    assert all(look.is_known(disk, i) for i in ids)
    finish(Relink(disk, State("n1", load(""), 1)))
    assert all(disk.info(layout.own_copy(i)) for i in ids)


def test_a_task_that_goes_back_to_what_was_looked_at_is_not_missed(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = spool(disk, monkeypatch)
    late = Entry(time=NOW, id=new_id(NOW), task="t.x")
    here = stand(disk, layout.running("n1", late))
    one = Relink(disk, state)
    while not any(disk.names(f"{layout.IDS}/{day}") for day in look.names(disk, layout.IDS)):
        one.step()
    disk.move(here, layout.pending(replace(late, fails=1)))
    finish(one)
    assert disk.info(layout.own_copy(late.id)) is not None


def finish_on_a_full_disk(one: Relink, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: str) -> None:
        raise DiskFull(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(relink, "link_anew", full)
        finish(one)


def test_a_full_disk_is_tried_again(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    state, ids = spool(disk, monkeypatch)
    one = Relink(disk, state)
    finish_on_a_full_disk(one, monkeypatch)
    assert state.relinking
    one.look()
    finish(one)
    assert not state.relinking
    assert all(disk.info(layout.own_copy(i)) for i in ids)


def test_what_another_node_has_done_is_done_here_as_well(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = spool(disk, monkeypatch)
    one = Relink(disk, state)
    finish_on_a_full_disk(one, monkeypatch)
    finish(Relink(disk, State("n2", load(""), 1)))
    one.look()
    assert (one.busy, state.relinking) == (False, False)


def test_a_name_that_is_made_in_what_was_just_deleted_hides_nothing(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(disk, layout.own_copy(new_id(NOW)))
    state = State("n1", load(""), 1)
    one, store = Relink(disk, state), Store(disk, "n1", durable=False)
    store.ids_lost = one.begin
    _, ids = spool(disk, monkeypatch)
    disk.write("tmp/x", b"{}")
    store.put("tmp/x", layout.own_copy(new_id(NOW)))
    assert state.relinking
    assert disk.info(layout.RELINK) is not None
    finish(one)
    assert all(disk.info(layout.own_copy(i)) for i in ids)


def test_a_spool_that_has_no_task_has_lost_none(disk: RealDisk) -> None:
    disk.make_dir(layout.held(Entry(time=NOW, id=new_id(NOW), task="t.x")))
    assert not look.ids_are_lost(disk)
    disk.remove_dir(layout.IDS)
    assert not look.ids_are_lost(disk)


def test_fsck_finishes_what_was_cut_off(disk: RealDisk) -> None:
    disk.write(layout.RELINK, b"")
    list(fsck.check(disk, repair=True))
    assert disk.info(layout.RELINK) is None


def test_nothing_starts_before_what_was_asked_while_the_disk_was_full_though_names_are_made_again(
    disk: RealDisk,
) -> None:
    state, loop = State("n1", load(""), 1), object.__new__(Loop)
    parts: dict[str, Any] = {
        "core": SimpleNamespace(state=state, disk=disk),
        "intake": SimpleNamespace(busy=False, overdue={"incoming/x.json"}, look=lambda *_: []),
        "status": SimpleNamespace(change=lambda: None),
    }
    vars(loop).update(parts)
    state.shut, state.relinking = "disk full", True
    for now in (Now(NOW, 1), Now(NOW, 2)):
        loop._taken(now)
    assert state.shut
    state.relinking = False
    loop._taken(Now(NOW, 3))
    assert state.shut == CATCHING_UP
    loop._taken(Now(NOW, 4))  # nothing was about what it matches
    assert not state.shut
