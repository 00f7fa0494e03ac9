"""Admission as a function: worse never admits more, noise does not make it flap, and it looks ahead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spool.settings import load
from spoold.core.admit import LOOK_FIRST, LOOK_LAST, Demand, Limits, Machine, admit, foresee, signals
from spoold.core.usage import KEPT, KEPT_NAMES, History

ADMISSION = load("[admission]\ncpu_pressure = [80, 50]\nio_pressure = [60, 40]").admission
GIB = 1 << 30
RISING = ("load", "cpu_pressure", "memory_pressure", "io_pressure", "swap", "heat")
ROOMY = Machine(at=0, cpus=4, cores=4.0, total=16 * GIB, available=12 * GIB, load=0.0)
SMALL = Demand(task="a", memory=GIB >> 4, cores=1.0, shown=True)
NAMES = (*RISING, "memory", "battery")


def limits(*closed: str, floor: int = 0, since: int | None = None) -> Limits:
    return Limits(admission=replace(ADMISSION, floor=floor), closed=frozenset(closed), since=since)


percent = st.none() | st.floats(0, 120)
machines = st.builds(
    lambda **facts: Machine(**facts),  # noqa: PLW0108 - hypothesis would evaluate its annotations
    at=st.just(0),
    cpus=st.integers(1, 64),
    cores=st.just(4.0),
    total=st.integers(0, 16 * GIB),
    available=st.integers(0, 16 * GIB),
    load=st.none() | st.floats(0, 500),
    cpu_pressure=percent,
    memory_pressure=percent,
    io_pressure=percent,
    swap=percent,
    heat=percent,
    battery=percent,
    short=st.sampled_from(["", "", "logs: full"]),
    running=st.integers(0, 5),
).map(lambda machine: replace(machine, available=min(machine.available, machine.total)))
demands = st.builds(
    Demand,
    task=st.just("a"),
    memory=st.integers(0, 20 * GIB),
    cores=st.floats(0, 8),
    shown=st.booleans(),
)
gates = st.builds(
    lambda closed, floor: limits(*closed, floor=floor),
    st.sets(st.sampled_from(NAMES)),
    st.integers(0, 3),
)


@given(machines, demands, gates, st.data())
def test_more_pressure_never_admits_more(
    machine: Machine, demand: Demand, gate: Limits, data: st.DataObject
) -> None:
    worse = machine
    for name in RISING:
        value = getattr(machine, name)
        if value is not None:
            worse = replace(worse, **{name: value + data.draw(st.floats(0, 100))})
    if machine.battery is not None:
        worse = replace(worse, battery=max(0.0, machine.battery - data.draw(st.floats(0, 100))))
    worse = replace(
        worse,
        available=machine.available - data.draw(st.integers(0, machine.available)),
        running=machine.running + data.draw(st.integers(0, 3)),
        short=machine.short or data.draw(st.sampled_from(["", "logs: full"])),
    )
    bigger = replace(
        demand,
        memory=demand.memory + data.draw(st.integers(0, GIB)),
        cores=demand.cores + data.draw(st.floats(0, 2)),
    )
    if not admit(machine, demand, gate, 0).yes:
        assert not admit(worse, bigger, gate, 0).yes
    assert signals(machine, gate)[1] <= signals(worse, gate)[1]


@given(machines, demands, st.sets(st.sampled_from(NAMES)), st.integers(0, 3))
def test_a_closed_gate_admits_nothing_an_open_one_would_not(
    machine: Machine, demand: Demand, closed: set[str], floor: int
) -> None:
    if admit(machine, demand, limits(*closed, floor=floor), 0).yes:
        assert admit(machine, demand, limits(floor=floor), 0).yes


@given(machines, demands, gates)
def test_a_no_says_why_and_when_it_looks_again(machine: Machine, demand: Demand, gate: Limits) -> None:
    verdict = admit(machine, demand, gate, 1000)
    if not verdict.yes:
        assert verdict.why
        assert 1000 + LOOK_FIRST <= verdict.look <= 1000 + LOOK_LAST
    if verdict.never:
        assert verdict.hard


@given(machines, demands, gates)
def test_what_can_never_start_is_told_as_that(machine: Machine, demand: Demand, gate: Limits) -> None:
    """With a floor, what has not run yet is tried once nothing else runs."""
    verdict = admit(machine, demand, gate, 0)
    hopeless = demand.memory > machine.total and (demand.shown or gate.admission.floor == 0)
    assert verdict.never is (hopeless and not machine.short)


@given(machines, demands, gates)
def test_the_floor_admits_all_but_what_does_harm(machine: Machine, demand: Demand, gate: Limits) -> None:
    few = machine.running < gate.admission.floor
    harm = bool(machine.short) or (demand.shown and demand.memory > machine.available)
    if few and not harm:
        assert admit(machine, demand, gate, 0).yes


@given(machines, gates, st.integers(0, 20 * GIB))
def test_nothing_is_started_into_a_kill_its_name_has_shown(
    machine: Machine, gate: Limits, memory: int
) -> None:
    demand = Demand(task="a", memory=memory, cores=0.0, shown=True)
    if admit(machine, demand, gate, 0).yes:
        assert memory <= machine.available


@given(
    st.sampled_from([name for name in RISING if name != "load"]),
    st.floats(0, 1),
    st.lists(st.floats(-1, 1), min_size=2, max_size=60),
)
def test_noise_within_the_band_changes_the_gate_at_most_once(
    name: str, where: float, noise: list[float]
) -> None:
    """A signal that wavers by less than half its band anywhere opens or closes it once."""
    closes, opens = getattr(ADMISSION, name)
    width = closes - opens
    middle = opens - width + 3 * width * where
    closed: frozenset[str] = frozenset()
    changes = -1
    for wave in noise:
        machine = replace(ROOMY, **{name: max(0.0, middle + 0.49 * width * wave)})
        found = admit(machine, SMALL, limits(*closed), 0).closed
        changes += found != closed or changes < 0
        closed = found
    assert changes <= 1


@given(st.dictionaries(st.text(max_size=3), demands, max_size=6), st.data())
def test_what_was_admitted_counts_before_it_shows(booked: dict[str, Demand], data: st.DataObject) -> None:
    resident = {i: data.draw(st.integers(0, 20 * GIB)) for i in booked}
    machine = replace(ROOMY, load=3.0, resident=resident)
    ahead = foresee(machine, booked, traced=0.0)
    coming = sum(max(0, booked[i].memory - resident[i]) for i in booked)
    assert ahead.available == max(0, machine.available - coming)
    assert ahead.running == len(booked)
    assert ahead.load is not None
    assert abs(ahead.load - 3.0 - sum(d.cores for d in booked.values())) < 1e-6


def test_our_own_trace_in_the_load_average_is_no_load_of_others() -> None:
    """Four of ours have just ended: the average still says 4, and there is room for the next ones."""
    machine = replace(ROOMY, load=4.0)
    assert foresee(machine, {}, traced=4.0).load == 0.0
    assert foresee(machine, {"x": SMALL}, traced=4.0).load == 1.0


def test_three_at_once_when_they_fit_and_not_a_fourth() -> None:
    need = Demand(task="report", memory=3 * GIB, cores=0.1, shown=True)
    booked: dict[str, Demand] = {}
    for number in range(6):
        if admit(foresee(ROOMY, booked, 0.0), need, limits(floor=1), 0).yes:
            booked[str(number)] = need
    assert len(booked) == 3  # 12 GiB free, and a tenth of 16 GiB stays so


def test_the_reason_is_a_sentence_with_figures() -> None:
    machine = replace(ROOMY, available=1 * GIB, memory_pressure=30.0)
    verdict = admit(machine, replace(SMALL, memory=2 * GIB), limits("memory"), 0)
    assert verdict.why == (
        "memory 94 % used, opens below 85 %; memory pressure 30 %, opens below 10 %; "
        "a needs about 2.0 GiB, 1.0 GiB free"
    )


# What runs have shown.


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=200))
def test_the_need_is_what_most_runs_and_the_latest_took(memory: list[int]) -> None:
    history = History()
    for peak in memory:
        history.learn("a", memory=peak, took=1_000_000, cpu=500_000)
    known = history.of("a")
    assert known is not None
    kept = memory[-KEPT:]
    assert sum(peak <= known.need for peak in kept) >= 0.95 * len(kept)
    assert known.need >= max(memory[-3:])
    assert known.cores == 0.5
    assert known.usual == 1_000_000


def test_the_history_is_bounded_and_forgets_who_has_not_run_for_longest() -> None:
    history = History()
    for number in range(KEPT_NAMES + 5):
        history.learn(f"t{number}", memory=1)
        history.learn("always", memory=1)
    assert len(history.names) == KEPT_NAMES
    assert history.of("always") is not None
    assert history.of("t0") is None
    assert history.of(f"t{KEPT_NAMES + 4}") is not None


names = st.text(min_size=1, max_size=8)
runs = st.lists(st.tuples(names, st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=50)


@given(runs)
def test_what_was_learned_comes_back_from_the_file(learned: list[tuple[str, int, int]]) -> None:
    history, again = History(), History()
    for task, memory, took in learned:
        history.learn(task, memory=memory, took=took, cpu=took // 2)
    again.recall(history.plain())
    assert again.plain() == history.plain()
    for task in history.names:
        one, other = again.of(task), history.of(task)
        assert one is not None
        assert other is not None
        assert one.need == other.need


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["v", "tasks", "a", "memory", "cpu", "took"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(anything)
def test_a_damaged_file_teaches_nothing_wrong(found: object) -> None:
    history = History()
    history.recall(found)
    for usage in history.names.values():
        assert all(type(v) is int and v >= 0 for v in (*usage.memory, *usage.cpu, *usage.took))
