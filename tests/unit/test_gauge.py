"""The machine is read right: bare, in a container, in a slice, with version 1, 2 or no control groups."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spool.settings import load
from spoold.core.state import State
from spoold.sources import cgroups
from spoold.sources.machine import Gauge

if TYPE_CHECKING:
    from pathlib import Path

    from spoold.core.admit import Machine

GIB = 1 << 30
SECOND = 1_000_000
V1_MOUNTS = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 24 0:26 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1_OWN = "4:memory:/docker/c0ffee\n3:cpu,cpuacct:/docker/c0ffee\n1:name=systemd:/\n0::/\n"
V2_MOUNTS = "30 24 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
PSI = "some avg10={} avg60=1.00 avg300=0.50 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def tree(place: Path, files: dict[str, str]) -> str:
    """A recorded part of /proc and /sys."""
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(place)


def fake_psutil(**changes: Any) -> Any:
    """psutil on a machine with 16 GiB, 8 CPUs, and nothing to worry about."""
    made = {
        "virtual_memory": lambda: SimpleNamespace(total=16 * GIB, available=10 * GIB),
        "swap_memory": lambda: SimpleNamespace(total=0, sin=0, sout=0),
        "sensors_battery": lambda: None,
        "sensors_temperatures": dict,
        "cpu_count": lambda: 8,
        "Process": lambda: SimpleNamespace(cpu_affinity=lambda: list(range(8))),
    }
    return SimpleNamespace(**{**made, **changes})


def gauge(system: str, pids: dict[str, int] | None = None, settings: str = "", **ps: Any) -> Gauge:
    state = State("n", load(settings), 2)
    return Gauge(state, "/", lambda: pids or {}, system=system, ps=fake_psutil(**ps))


def look(place: Path, files: dict[str, str], **more: Any) -> Machine:
    return gauge(tree(place, files), **more).look(5)


BARE = {
    "proc/loadavg": "3.50 1.00 0.50 2/300 4242\n",
    "proc/pressure/cpu": PSI.format("12.50"),
    "proc/pressure/memory": PSI.format("0.00"),
    "proc/pressure/io": PSI.format("7.00"),
}


def test_a_bare_machine(tmp_path: Path) -> None:
    found = look(tmp_path, BARE)
    assert (found.cpus, found.cores, found.total, found.available) == (8, 8, 16 * GIB, 10 * GIB)
    assert (found.load, found.cpu_pressure, found.memory_pressure, found.io_pressure) == (
        3.5, 12.5, 0.0, 7.0,
    )  # fmt: skip
    assert (found.swap, found.heat, found.battery, found.short) == (None, None, None, "")


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    found = look(tmp_path, {})
    assert found.load is found.cpu_pressure is found.memory_pressure is found.io_pressure is None
    assert found.available == 10 * GIB


def test_a_container_with_version_1(tmp_path: Path) -> None:
    """Mounted from the container's own group on; the host's load and CPU pressure are not its own."""
    memory, cpu = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"
    found = look(
        tmp_path,
        {
            **BARE,
            "proc/self/cgroup": V1_OWN,
            "proc/self/mountinfo": V1_MOUNTS.format(root="/docker/c0ffee"),
            f"{memory}/memory.limit_in_bytes": str(4 * GIB),
            f"{memory}/memory.usage_in_bytes": str(3 * GIB),
            f"{memory}/memory.stat": f"cache 9\ntotal_inactive_file {GIB}\ntotal_active_file 0\n",
            f"{cpu}/cpu.cfs_quota_us": "150000\n",
            f"{cpu}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (found.total, found.available, found.cores) == (4 * GIB, 2 * GIB, 1.5)
    assert found.load is None
    assert found.cpu_pressure is None
    assert found.io_pressure == 7.0


def test_version_1_without_limits_is_as_bare(tmp_path: Path) -> None:
    memory, cpu = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"
    found = look(
        tmp_path,
        {
            **BARE,
            "proc/self/cgroup": V1_OWN,
            "proc/self/mountinfo": V1_MOUNTS.format(root="/"),
            f"{memory}/docker/c0ffee/memory.limit_in_bytes": "9223372036854771712\n",
            f"{memory}/docker/c0ffee/memory.usage_in_bytes": "1000\n",
            f"{cpu}/docker/c0ffee/cpu.cfs_quota_us": "-1\n",
            f"{cpu}/docker/c0ffee/cpu.cfs_period_us": "100000\n",
        },
    )
    assert found == look(tmp_path / "bare", BARE)


def slice_tree(**own: str) -> dict[str, str]:
    group = "sys/fs/cgroup/system.slice/spoold.service"
    return {
        **BARE,
        "proc/self/cgroup": "0::/system.slice/spoold.service\n",
        "proc/self/mountinfo": V2_MOUNTS,
        "sys/fs/cgroup/cgroup.controllers": "cpu memory io\n",
        "sys/fs/cgroup/system.slice/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
        f"{group}/cpu.pressure": PSI.format("40.00"),
        f"{group}/memory.pressure": PSI.format("3.00"),
        f"{group}/io.pressure": PSI.format("1.00"),
        **{f"{group}/{name.replace('_', '.')}": text for name, text in own.items()},
    }


def test_a_slice_without_limits_hears_of_its_neighbours_too(tmp_path: Path) -> None:
    found = look(tmp_path, slice_tree(memory_max="max\n", cpu_max="max 100000\n"))
    assert (found.total, found.available, found.load) == (16 * GIB, 10 * GIB, 3.5)
    assert (found.cpu_pressure, found.memory_pressure, found.io_pressure) == (40.0, 3.0, 7.0)


def test_a_slice_with_limits_is_judged_by_them(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        slice_tree(
            memory_max=f"{2 * GIB}\n",
            memory_high=f"{1 * GIB}\n",
            memory_current=f"{GIB // 2}\n",
            memory_stat=f"anon 5\ninactive_file {GIB // 8}\nactive_file {GIB // 8}\n",
            cpu_max="50000 100000\n",
        ),
    )
    assert (found.total, found.available, found.cores) == (GIB, 3 * GIB // 4, 0.5)
    assert found.load is None
    assert (found.cpu_pressure, found.memory_pressure, found.io_pressure) == (40.0, 3.0, 1.0)


def test_the_tightest_limit_above_counts(tmp_path: Path) -> None:
    files = slice_tree(memory_max=f"{8 * GIB}\n", memory_current="0\n", memory_stat="anon 0\n")
    files["sys/fs/cgroup/system.slice/memory.max"] = f"{4 * GIB}\n"
    files["sys/fs/cgroup/system.slice/memory.current"] = f"{3 * GIB}\n"
    found = look(tmp_path, files)
    assert (found.total, found.available) == (4 * GIB, GIB)


def test_a_limit_larger_than_the_machine_is_none(tmp_path: Path) -> None:
    found = look(tmp_path, slice_tree(memory_max=f"{99 * GIB}\n", memory_current="0\n"))
    assert (found.total, found.available) == (16 * GIB, 10 * GIB)


def test_affinity_is_fewer_cores(tmp_path: Path) -> None:
    mine = SimpleNamespace(cpu_affinity=lambda: [0, 3])
    found = look(tmp_path, BARE, Process=lambda: mine)
    assert (found.cores, found.cpus, found.load) == (2, 8, 3.5)


def test_swapping_is_a_rate_between_two_looks(tmp_path: Path) -> None:
    moved = iter([0, 0, 30 << 20, 40 << 20, 40 << 20, 50 << 20])
    found = gauge(str(tmp_path), swap_memory=lambda: SimpleNamespace(total=1, sin=next(moved), sout=0))
    rates = [found.look(at * SECOND).swap for at in (0, 3, 5, 500)]
    assert rates == [None, 10.0, 5.0, None]  # too long ago says nothing of now


@pytest.mark.parametrize(("plugged", "left"), [(True, None), (None, None), (False, 15.0)])
def test_a_battery_counts_without_mains(tmp_path: Path, plugged: bool | None, left: float | None) -> None:
    battery = SimpleNamespace(percent=15.0, power_plugged=plugged)
    assert look(tmp_path, {}, sensors_battery=lambda: battery).battery == left


def test_heat_is_the_hottest_by_its_own_limit(tmp_path: Path) -> None:
    def sensor(current: float, high: float | None, critical: float | None) -> Any:
        return SimpleNamespace(current=current, high=high, critical=critical)

    rows = {
        "coretemp": [sensor(80, 90, 100), sensor(45, 60, None)],
        "odd": [sensor(70, None, None), sensor(30, 65261.8, 0), sensor(40, 5, 5)],
    }
    assert look(tmp_path, {}, sensors_temperatures=lambda: rows).heat == 80.0


def test_a_full_file_system_of_the_logs_is_told(tmp_path: Path) -> None:
    found = gauge(str(tmp_path), settings='min_free_bytes = "1024TiB"').look(0).short
    assert found.startswith("logs: ")
    assert "min_free_bytes" in found


def test_logs_that_were_removed_are_on_the_file_system_of_the_spool(tmp_path: Path) -> None:
    found = gauge(tree(tmp_path, BARE), settings="min_free_inodes = 1")
    found.logs = str(tmp_path / "logs")
    assert found.look(5).short == ""


def test_the_memory_of_a_run_is_that_of_its_tree(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    files = {
        "proc/10/statm": "900 100 50 1 0 40 0\n",
        "proc/10/task/10/children": "11 12 ",
        "proc/11/statm": "900 20 50 1 0 40 0\n",
        "proc/12/statm": "900 3 50 1 0 40 0\n",
        "proc/12/task/12/children": "13 ",
    }
    found = look(tmp_path, files, pids={"a": 10, "b": 99, "c": 0})
    assert found.resident == {"a": 123 * page, "b": 0}


def test_this_machine_can_be_looked_at() -> None:
    found = Gauge(State("n", load(""), 2), "/", dict).look(1)
    assert 0 < found.available <= found.total
    assert 0 < found.cores <= found.cpus


@pytest.mark.parametrize("text", ["", "some", "some avg60=1.00\n", "full avg10=3.00\n"])
def test_a_pressure_file_of_another_form_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu").write_text(text)
    assert cgroups.pressure(str(tmp_path / "cpu")) is None


def test_a_kernel_that_knows_no_power_supply_has_no_battery(tmp_path: Path) -> None:
    def absent() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/sys/class/power_supply")

    assert look(tmp_path, {}, sensors_battery=absent).battery is None


def test_what_changes_seldom_is_read_every_half_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is set meanwhile is seen then; until then a look costs few calls of the system."""
    group = "sys/fs/cgroup/a"
    files = {**BARE, "proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNTS}
    files[f"{group}/memory.current"] = "1000\n"
    found = gauge(tree(tmp_path, files))
    assert found.look(0).total == 16 * GIB
    read: list[str] = []
    text = cgroups.text
    monkeypatch.setattr(cgroups, "text", lambda path: read.append(path) or text(path))  # type: ignore[func-returns-value]
    (tmp_path / group / "memory.max").write_text(str(GIB))
    assert found.look(1 * SECOND).total == 16 * GIB
    assert {os.path.basename(path).removesuffix(".pressure") for path in read} == {
        "loadavg", "cpu", "memory", "io",
    }  # fmt: skip
    assert found.look(31 * SECOND).total == GIB
    assert found.look(32 * SECOND).available == GIB - 1000
