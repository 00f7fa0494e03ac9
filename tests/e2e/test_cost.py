"""What one task costs in system calls: counts that a busy machine seldom changes. A guard of the hot path.

A task of a parent, from its action to its done event, relaxed: the calls of the daemon's own thread,
counted by strace for 50 tasks and for 250; the difference is 200 tasks and nothing else. The functions
of Python that it calls are counted in the same way. The time that its rounds take changes nothing.
"""

import os
import shutil
import signal
import sys

import pytest

from tests.e2e.live import Live, until
from tests.unit.test_runner import RawKeeper, ordered

SETTINGS = 'durability = "relaxed"\n[handlers."order.*"]\nnotify = "shop"\ntimeout = "10m"\n'
FEW, MANY = 50, 250  # what one round of the loop takes
# Calls for each task. Three files are made (its own copy, the ready event, its record) and one read
# (the ack). Four renames: to its place, the event to the outbox, and both again at the end. Two links:
# its name in ids/, its record. One removal: the ack.
MOST = {"openat": 4.2, "write": 3.2, "renameat": 4.2, "linkat": 2.1, "unlinkat": 1.1, "newfstatat": 6.2}
ALL = 25.5
# A Python task: two files are made, two are read (the action and, at most, its own copy). Four renames:
# to pending/, to running/, the event to the outbox, and to its end. How many share a line of the
# journal's, a wake-up and a write to a worker is a matter of chance.
PYTHON = {"renameat": 4.2, "linkat": 2.1, "unlinkat": 1.1}
# A program, in the keeper: six of its calls ask for a limit (three descriptors put in place), and its end
# takes read, waitid, kill, wait4, waitid and a wake-up. None listens to who has ended within 5 ms.
PROGRAM = 30.5
FUNCTIONS = 400  # of Python, for a task of a parent; 360 (2026-11-22)
# A machine on which a round takes long takes less in the next, and looks through what is newest.
STEADY = """
import sys
from spoold.__main__ import main
from spoold.sources.intake import Intake
Intake.took = lambda *_: None
"""
COUNTED = "sys.argv = sys.argv[3:]  # of what follows `python -m`\nsys.exit(main())\n"
COUNTING = """
calls = 0
def count(frame, event, arg):
    global calls
    calls += event == "call"
summary, sys.argv = sys.argv[1], sys.argv[4:]  # of what follows `python -m`
sys.setprofile(count)
try:
    status = main()
finally:
    sys.setprofile(None)
    with open(summary, "w") as file:
        file.write(str(calls))
sys.exit(status)
"""
APP = """
from spool import task
@task("p.tea")
def tea() -> None: ...
"""


# Waits for another thread, and the clock, which is a call on some machines only, say nothing of a task.
STRACE = ("strace", "-c", "-e", "trace=!futex,clock_gettime", "-o")

strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@strace
def test_the_calls_for_one_task_are_what_they_should_be(tmp_path):
    for turn in range(5):  # how often all is looked through at the start is a matter of chance
        place = tmp_path / str(turn)
        place.mkdir()
        few, many = (counted(place / str(n), with_their_parent, n) for n in (FEW, MANY))
        each = {call: (many.get(call, 0) - few.get(call, 0)) / (MANY - FEW) for call in many}
        if sum(each.values()) <= ALL:
            break
    assert {call: n for call, n in each.items() if n > MOST.get(call, ALL)} == {}
    assert sum(each.values()) <= ALL, each


@strace
def test_a_python_task_makes_no_more_names_than_it_has_to(tmp_path):
    few, many = (counted(tmp_path / str(n), in_a_worker, n) for n in (FEW, MANY))
    each = {call: (many.get(call, 0) - few.get(call, 0)) / (MANY - FEW) for call in PYTHON}
    assert {call: n for call, n in each.items() if n > PYTHON[call]} == {}


@strace
def test_a_program_costs_its_keeper_no_more_calls_than_it_has_to(tmp_path):
    few, many = (kept(tmp_path / str(n), n) for n in (FEW, MANY))
    assert (sum(many.values()) - sum(few.values())) / (MANY - FEW) <= PROGRAM, (few, many)


def test_a_task_takes_no_more_functions_than_it_should(tmp_path):
    for turn in range(5):  # as above
        place = tmp_path / str(turn)
        place.mkdir()
        few, many = (interpreted(place / str(n), n) for n in (FEW, MANY))
        if (each := (many - few) / (MANY - FEW)) <= FUNCTIONS:
            break
    assert each <= FUNCTIONS


def interpreted(place, number):
    """Functions of Python that a daemon calls which does so many tasks of a parent."""
    place.mkdir()
    (place / "counting.py").write_text(STEADY + COUNTING)
    summary = place / "calls"
    served(place, with_their_parent, number, (sys.executable, str(place / "counting.py"), str(summary)))
    return int(summary.read_text())


def counted(place, play, number):
    """System calls of a daemon that does so many tasks."""
    place.mkdir()
    (place / "counted.py").write_text(STEADY + COUNTED)
    summary = place / "calls"
    traced = (*STRACE, str(summary), sys.executable, str(place / "counted.py"))
    again = served(place, play, number, traced)
    found = summed_up(summary)
    return found | {"renameat": found["renameat"] - 2 * again}


def summed_up(summary):
    """What strace has counted, by call."""
    rows = [line.split() for line in summary.read_text().splitlines()[2:]]
    return {
        row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit() and row[-1] != "total"
    }


def kept(summary, number):
    """System calls of a keeper that does so many programs, one after the other."""
    keeper = RawKeeper(*STRACE, str(summary))
    for one in range(number):
        keeper.say(ordered(f"{one}.1", "/bin/true"))
        while keeper.answer()["ev"] != "exit":
            pass
    assert keeper.close() == 0
    return summed_up(summary)


def served(place, play, number, before):
    """A daemon, started by this command, does so many tasks; how many were handed ahead, and back."""
    (place / "app.py").write_text(APP)
    python = f'[handlers."p.*"]\npython = "app"\ncwd = "{place}"\n'
    live = Live(place, SETTINGS + python)
    try:
        live.process = live.spoold("-q", before=before)
        status = until(live.status_now, "spoold serves")
        live.submit("order.first")  # when it is told, the daemon knows what waits
        until(lambda: len(names(live)) == 1, "the first is told")
        play(live, status["pid"], number)
        os.kill(status["pid"], signal.SIGTERM)
        assert live.wait_exit() == 0
        return len(live.journal("return"))  # one rename, and one more claim, each
    finally:
        live.close()


def with_their_parent(live, pid, number):
    """Tasks of a parent, each step of all of them at once."""
    os.kill(pid, signal.SIGSTOP)
    ids = live.submit_all([{"task": "order.tea"} for _ in range(number)])
    os.kill(pid, signal.SIGCONT)
    until(lambda: len(names(live)) == number + 1, "all are told as ready")
    os.kill(pid, signal.SIGSTOP)
    for task_id in ids:
        live.drop({"action": "ack", "id": task_id, "attempt": 1})
    os.kill(pid, signal.SIGCONT)
    until(lambda: len(names(live)) == 2 * number + 1, "all are told as done")


def in_a_worker(live, _pid, number):
    """Python tasks."""
    live.submit_all([{"task": "p.tea", "notify": "shop"} for _ in range(number)])
    until(lambda: len(names(live)) == number + 1, "all are told as done")


def names(live):
    """What the parent is told."""
    try:
        return [n for n in os.listdir(live.root / "outbox" / "shop") if not n.startswith(".")]
    except FileNotFoundError:
        return []
