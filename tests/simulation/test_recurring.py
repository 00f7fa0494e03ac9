"""Schedules whose zone or clock, or the daemon itself, goes away for a time."""

from __future__ import annotations

import errno
import zoneinfo
from importlib import resources
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from spool import layout, look, occurrences, packs
from spool.disk import DiskFull, write_anew
from spool.names import id_date
from spool.occurrences import LIMIT
from spool.scene import recurring
from spool.schedule import occurrence_id
from spool.times import parse_utc
from spoold.sources import recurring as sources
from spoold.sources.recurring import SLICE
from tests.simulation.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.simulation.model import ModelDisk

MINUTE = 60 * SECOND
ZONE = "Test/Zone"


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Path]:
    """A machine that knows UTC and one zone more."""
    before = zoneinfo.TZPATH
    for name, like in (("UTC", "UTC"), (ZONE, "Europe/Rome")):
        install(tmp_path, name, like)
    zoneinfo.reset_tzpath([str(tmp_path)])
    ZoneInfo.clear_cache()
    yield tmp_path
    zoneinfo.reset_tzpath(before)
    ZoneInfo.clear_cache()


def install(zones: Path, name: str, like: str) -> None:
    (zones / name).parent.mkdir(exist_ok=True)
    (zones / name).write_bytes((resources.files("tzdata") / "zoneinfo" / like).read_bytes())


def lose(zones: Path) -> None:
    """The machine does not know the zone any more."""
    (zones / ZONE).unlink()
    ZoneInfo.clear_cache()


def schedule(name: str, **keys: object) -> str:
    """Its table in spool.toml."""
    table = {"every": "*/5 * * * *", "task": "run.a", "catch_up": "all", "overlap": "queue"} | keys
    return "\n".join([f"[recurring.{name}]", *(f'{k} = "{v}"' for k, v in table.items())])


def set_by_action(world: World, name: str, **keys: object) -> None:
    table = {"every": "*/5 * * * *", "task": "run.a", "catch_up": "all", "overlap": "queue"} | keys
    act(world, action="schedule", name=name, table=table)


def act(world: World, **doc: Any) -> None:
    world.writers.drop(doc)
    world.run(SECOND)


def made(world: World, name: str) -> list[int]:
    """How many minutes after START each task of a schedule was due."""
    at = [look.at(world.disk, path).task.recurring for path, _ in look.entries(world.disk, layout.STATES)]
    times = [parse_utc(told["scheduled_at"]) for told in at if told and told["name"] == name]
    return sorted((time - START) // MINUTE for time in times)


def test_a_zone_that_is_gone_stops_neither_the_daemon_nor_other_schedules(
    zones: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(more=f"|{schedule('there')}\n{schedule('gone', timezone=ZONE)}")
    world.boot()
    world.run(10 * MINUTE)
    lose(zones)
    world.run(10 * MINUTE)
    for _ in range(2):
        set_by_action(world, "more")  # all are read again
    world.run(10 * MINUTE)
    assert len(made(world, "there")) == 6
    assert caplog.text.count("recurring gone") == 1
    install(zones, ZONE, "Europe/Rome")
    world.crash()
    world.boot()
    world.run(MINUTE)
    assert made(world, "gone") == made(world, "there")


def test_a_set_schedule_without_its_zone_is_shown_as_broken_and_makes_up_for_it_later(
    zones: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.boot()
    set_by_action(world, "gone", timezone=ZONE)
    world.run(10 * MINUTE)
    lose(zones)
    world.crash()
    world.boot()
    for _ in range(2):
        set_by_action(world, "more")
    world.run(10 * MINUTE)
    assert caplog.text.count("recurring gone") == 1
    known = recurring.settings_of(world.disk)
    rows = {row["name"]: row for row in recurring.rows(world.disk, known, world.wall)}
    assert rows["gone"]["problem"].startswith(f"timezone `{ZONE}`: must be a time zone")
    assert (rows["gone"]["next"], rows["more"]["problem"]) == (None, None)
    install(zones, ZONE, "Europe/Rome")
    world.crash()
    world.boot()
    world.run(MINUTE)
    assert made(world, "gone") == [1, 6, 11, 16, 21]


@pytest.mark.parametrize("named", [True, False])
def test_new_rules_of_a_zone_count_from_a_reload_on_and_nothing_due_by_them_is_lost(
    zones: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """By Rome's clock it is due 8 hours and a minute after START, by the new one in a minute."""
    monkeypatch.setenv("TZ", ZONE)
    table = schedule("daily", every="0 9 * * *", **({"timezone": ZONE} if named else {}))
    world = World(more=f"|{table}")
    host = world.boot()
    world.run(10 * MINUTE)
    install(zones, ZONE if named else "Test/Other", "Asia/Tokyo")
    monkeypatch.setenv("TZ", ZONE if named else "Test/Other")
    ZoneInfo.clear_cache()
    host.recurring.anew()
    world.run(MINUTE)
    assert made(world, "daily") == [1]


HOURLY = f"|{schedule('h', every='0 * * * *')}"  # a minute after START, and so on
HOUR = 60 * MINUTE


@pytest.mark.parametrize("down", [False, True])
def test_nothing_is_made_of_a_pause_that_ended_while_nobody_looked_and_all_of_what_came_after(
    *, down: bool
) -> None:
    world = World(more=HOURLY)
    world.boot()
    world.run(2 * MINUTE)
    act(world, action="pause", task="@h", until=(world.wall + 3 * HOUR) // SECOND)
    world.run(HOUR)
    if down:
        world.crash()
    world.step_clock(5 * HOUR)  # as after a suspension
    if down:
        world.boot()
    world.run(MINUTE)
    assert made(world, "h") == [1, 241, 301, 361]


def test_nothing_is_made_of_a_pause_that_somebody_ended_while_it_was_looked_at() -> None:
    world = World(more=HOURLY)
    world.boot()
    world.run(2 * MINUTE)
    act(world, action="pause", task="@*")
    world.run(3 * HOUR)
    act(world, action="resume", task="@*")
    world.run(HOUR)
    assert made(world, "h") == [1, 241]


def test_many_schedules_are_looked_after_a_few_at_a_time_and_none_is_left_out() -> None:
    names = [f"s{n}" for n in range(3 * SLICE + 1)]
    world = World(more="|" + "\n".join(schedule(name, every="0 * * * *") for name in names))
    world.boot()
    world.run(SECOND)
    world.crash()
    world.pass_time(5 * HOUR)
    host = world.boot()
    turns = [0]
    while sum(turns) < 5 * len(names):
        turns.append(len(host.recurring.look(world.now())))
        assert turns[-1] < SLICE + 5
    world.crash()
    world.boot()
    world.run(HOUR)
    assert {name: made(world, name) for name in names} == {n: [1, 61, 121, 181, 241, 301] for n in names}


@pytest.mark.parametrize("nodes", [1, 2])
def test_who_takes_the_ids_of_a_schedule_beforehand_keeps_none_of_its_tasks_away(
    nodes: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(nodes=nodes, lease=30 * (nodes > 1))
    for node in world.hosts:
        world.boot(node)
    set_by_action(world, "h", every="0 * * * *")
    for minute in (61, 121):
        act(world, action="submit", task="run.a", id=occurrence_id("h", START + minute * MINUTE))
    world.run(2 * MINUTE)
    marks = f"{layout.NODES}/n1.recurring"
    before = world.disk.read(marks, LIMIT)
    world.run(2 * HOUR)
    assert made(world, "h") == [1, 61, 121]
    assert caplog.text.count("another task has the id") == 2
    (row,) = recurring.rows(world.disk, recurring.settings_of(world.disk), world.wall)
    place = look.find(world.disk, row["id"])
    assert place is not None
    assert (place.task.recurring or {})["name"] == "h"
    for node in world.hosts:
        world.crash(node)
        write_anew(world.disk, f"{layout.NODES}/{node}.recurring", before)  # as a crash may leave it
    world.boot()
    world.run(HOUR)
    assert made(world, "h") == [1, 61, 121, 181]


def _with(listed: str, task_id: str) -> ModelDisk:
    """The disk of another spool, on which a writer's task of this id is packed."""
    disk = World().disk
    disk.make_dir(layout.parent_of(listed))
    disk.write(listed, f"{task_id} {'0' * 32}\n".encode())
    return disk


@pytest.mark.parametrize("fault", ["empty", "full"])
def test_a_spool_without_its_secret_makes_a_task_whose_id_is_taken_once_and_later(
    fault: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.boot()
    set_by_action(world, "h", every="0 * * * *")
    act(world, action="submit", task="run.a", id=occurrence_id("h", START + MINUTE))
    real = occurrences.drawn

    def full(*_args: object) -> str:
        raise DiskFull(errno.ENOSPC, "no room")

    if fault == "empty":
        world.disk.write(layout.SECRET, b"")
    else:
        monkeypatch.setattr(occurrences, "drawn", full)
    world.run(2 * MINUTE)
    assert made(world, "h") == []
    assert caplog.text.count("waits for") == 1
    if fault == "empty":
        world.disk.remove(layout.SECRET)
    monkeypatch.setattr(occurrences, "drawn", real)
    world.run(HOUR)
    assert made(world, "h") == [1, 61]


def test_the_task_of_a_writer_that_has_the_id_of_a_schedules_may_be_packed() -> None:
    """And so may that of the schedule: neither keeps one away, neither is made twice."""
    disk = World().disk
    at, ours = START, occurrence_id("h", START)
    folder = f"{layout.PACKED}/{id_date(ours)}"
    disk.make_dir(folder)
    listed = f"{folder}/2099-01-01.1{packs.IDS}"
    disk.write(listed, f"{ours} {occurrences.digest('h', at)}\n".encode())
    assert occurrences.standing(disk, "h", at, "n") == (ours, True)
    write_anew(disk, listed, f"{ours} {'0' * 32}\n".encode())
    other, there = occurrences.standing(disk, "h", at, "n")
    secret = disk.read(layout.SECRET, LIMIT).decode()
    assert other == occurrence_id("h", at, secret) != ours
    assert not there
    assert occurrences.standing(_with(listed, ours), "h", at, "n")[0] != other  # nobody foresees it
    assert occurrences.standing(disk, "h", at, "n") == (other, False)
    write_anew(disk, listed, f"{ours} {'0' * 32}\n{other} {occurrences.digest('h', at)}\n".encode())
    assert occurrences.standing(disk, "h", at, "n") == (other, True)


def test_what_was_missed_and_is_made_by_now_is_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.boot()
    set_by_action(world, "h")
    world.run(2 * MINUTE)
    world.crash()
    world.run(HOUR)
    looked: list[int] = []
    real = occurrences.standing

    def counted(disk: ModelDisk, name: str, at: int, node: str) -> tuple[str, bool]:
        looked.append(at)
        return real(disk, name, at, node)

    monkeypatch.setattr(occurrences, "standing", counted)
    monkeypatch.setattr(sources, "AT_ONCE", 4)
    world.boot()
    world.run(MINUTE)
    assert made(world, "h") == list(range(1, 62, 5))
    assert looked.count((START + MINUTE) + 5 * MINUTE) == 2
