"""Delete one statement after the other and see whether anything notices.

    python tools/mutation.py [--jobs 2] [--only PART_OF_PATH] [--sample N] [--seed S]
                             [--plays N] [--reach FILE]

First everything is played once, untouched, and what reaches which line is written down: tests of
tests/unit and tests/property; every story of tests/crash with a crash, an error or a power cut before
each of its steps; histories by chance. Then every statement of the modules below that does something (a
call, an assignment, a raise) is replaced by `pass`, each in a process of its own, which plays what
reaches that line, or (--plays) so many of them from all over, for what nothing notices meets all of
them. What none of it notices is tried once more with the tests in TESTS, on a real disk.
What is printed at the end is either a line that is not needed, or one whose test is missing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import importlib
import io
import logging
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

What = TypeVar("What")
Reached = dict[tuple[str, int], list[What]]  # (file, line): what reaches it

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TARGETS = ("spoold/effects/store.py", "spoold/effects/group.py", "spoold/recovery.py", "spoold/core")
UNITS = ("tests/unit", "tests/property")  # those in them that name a target
TESTS = (
    "tests/e2e/test_verbs.py",
    "tests/e2e/test_notify.py",
    "tests/e2e/test_deadlines.py",
    "tests/e2e/test_damage.py",
    "tests/crash/test_damaged.py",
    "tests/crash/test_full_disk.py",
)
CPU = 30  # seconds of one play; none takes 5; going round in circles is noticed
MEMORY = 2 << 30  # bytes, beyond those of the parent
PATIENCE = 900  # seconds for TESTS
CUTS = 3  # power cuts before each step
SEEDS = 20  # histories
FEW = 40  # plays of those that reach a line that come first, from all over
KINDS = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete, ast.Raise)


@dataclass(frozen=True)
class Mutant:
    """One statement of one function (`name`: Class.method, or a function's) to be replaced."""

    path: Path
    name: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.first}: {self.text}"

    @property
    def source(self) -> str:
        """The module without the statement."""
        lines = self.path.read_text().splitlines()
        indent = len(lines[self.first - 1]) - len(lines[self.first - 1].lstrip())
        lines[self.first - 1 : self.last] = [" " * indent + "pass"]
        return "\n".join(lines) + "\n"


def mutants(path: Path) -> list[Mutant]:
    """The statements of a module, inside functions, that do something."""
    source = path.read_text()
    lines, found = source.splitlines(), set()
    for above in ast.parse(source).body:
        for function in above.body if isinstance(above, ast.ClassDef) else [above]:
            if not isinstance(function, ast.FunctionDef):
                continue
            name = function.name if function is above else f"{above.name}.{function.name}"  # type: ignore[attr-defined]
            for node in ast.walk(function):
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                unused = isinstance(node, ast.Delete) and isinstance(node.targets[0], ast.Name)
                if isinstance(node, KINDS) and not docstring and not unused:
                    text = lines[node.lineno - 1].strip()
                    found.add(Mutant(path, name, node.lineno, node.end_lineno or node.lineno, text))
    return sorted(found, key=lambda m: m.first)


def put_in(mutant: Mutant) -> None:
    """Give the function its other code, wherever it has been imported to."""
    module = importlib.import_module(".".join(mutant.path.relative_to(ROOT).with_suffix("").parts))
    code: types.CodeType = compile(mutant.source, str(mutant.path), "exec")
    owner: object = module
    for part in mutant.name.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
        owner = vars(owner)[part]
    function: Any = getattr(owner, "fget", None) or getattr(owner, "__wrapped__", owner)
    function.__code__ = code


class Slow(BaseException):
    """A play goes round in circles."""


@dataclass(frozen=True)
class Play:
    """A story with a fault in it, or a history (`story` empty) by its seed."""

    story: str
    fault: Any = None
    seed: int = 0

    def run(self) -> None:
        """Play it; raises whatever notices."""
        from tests.crash.everywhere import play
        from tests.simulation.run import simulate
        from tests.simulation.soak import KINDS as PLANS

        if self.story:
            play(self.story, self.fault)
            return
        history = simulate(self.seed, shrink=0, **PLANS[self.seed % len(PLANS)])
        if history.problem is not None:
            raise history.problem


def plays() -> list[Play]:
    """All of them."""
    from tests.crash.everywhere import Fault, steps
    from tests.crash.scenarios import STORIES
    from tests.simulation.faults import CHANGES, WRITES

    found = [Play("", seed=seed) for seed in range(SEEDS)]
    for story in STORIES:
        found.append(Play(story, Fault(n=1 << 30)))
        for n in range(steps(story)):
            full = Fault(n=n, error=errno.ENOSPC, verbs=CHANGES, times=1 + n % 3)
            broken = Fault(n=n, error=errno.EIO, verbs=WRITES)
            cuts = [Fault(n=n, cut=seed) for seed in range(CUTS)]
            faults = [Fault(n=n), full, broken, Fault(n=n, again=n * 7 % 13), *cuts]
            found += [Play(story, fault) for fault in faults]
    return found


class Reach:
    """Which lines of the targets are executed while it is on."""

    def __init__(self, paths: list[Path]) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._files = frozenset(map(str, paths))

    def __enter__(self) -> Self:
        self.lines = set()
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def tell(self, what: What, reached: Reached[What]) -> None:
        """Put it down for each of its lines."""
        for line in self.lines:
            reached.setdefault(line, []).append(what)

    def _call(self, frame: types.FrameType, _event: str, _arg: object) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: types.FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


class Tests:
    """A plugin of pytest that writes down what each test reaches."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.reached: Reached[str] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around each test, with its fixtures."""
        with self.reach:
            yield
        self.reach.tell(item.nodeid, self.reached)


def run_tests(tests: Sequence[str], *plugins: object) -> int:
    """Run pytest in this process, silent; its exit code."""
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = "/nonexistent"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={ROOT}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main([*options, *tests], plugins=list(plugins)))


def reached_by_tests(paths: list[Path]) -> Reached[str]:
    """What tests of UNITS reach each line; RuntimeError where one fails untouched."""
    modules = [target.removesuffix(".py").replace("/", ".") for target in TARGETS]
    files = [p for folder in UNITS for p in sorted((ROOT / folder).glob("test_*.py"))]
    some = [str(p) for p in files if any(module in p.read_text() for module in modules)]
    tests = Tests(Reach(paths))
    if code := run_tests(some, tests):
        raise RuntimeError(f"pytest says {code} without any mutant")
    return tests.reached


def reached_by_plays(some: list[Play], paths: list[Path], jobs: int) -> Reached[Play]:
    """What plays reach each line; raises what one of them finds untouched."""
    found: Reached[Play] = {}
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        parts = [(range(n, len(some), jobs), some, paths) for n in range(jobs)]
        for part in pool.starmap(_reached, parts):
            for line, numbers in part.items():
                found.setdefault(line, []).extend(some[n] for n in numbers)
    return found


def _reached(numbers: range, some: list[Play], paths: list[Path]) -> Reached[int]:
    found: Reached[int] = {}
    for number in numbers:
        with Reach(paths) as reach:
            some[number].run()
        reach.tell(number, found)
    return found


def spread(some: list[Play], number: int) -> list[Play]:
    """About so many of them, from all over."""
    return some[:: max(1, len(some) // number)]


def noticed(mutant: Mutant, tests: list[str], some: list[Play]) -> str:
    """What notices, of the tests and plays that reach it; empty if nothing does."""
    put_in(mutant)
    signal.signal(signal.SIGPROF, _slow)
    try:
        for play in spread(some, FEW):
            signal.setitimer(signal.ITIMER_PROF, CPU)
            play.run()
        signal.setitimer(signal.ITIMER_PROF, 4 * CPU)
        if tests and run_tests(tests):
            return "tests"
        for play in some:
            signal.setitimer(signal.ITIMER_PROF, CPU)
            play.run()
    except BaseException as problem:  # noqa: BLE001 - a simulated crash is none of Exception
        return repr(problem)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def _slow(*_: object) -> None:
    raise Slow


def lives_in_memory(mutant: Mutant, tests: list[str], some: list[Play]) -> bool:
    """Whether nothing in memory notices; in a child, for a bounded time."""

    def child() -> None:
        here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (here + MEMORY, here + MEMORY))
        sys.exit(bool(noticed(mutant, tests, some)))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode == 0


def lives_on_disk(mutant: Mutant) -> bool:
    """Whether the tests pass in a copy of the tree without the statement."""
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        left_out = shutil.ignore_patterns(".git", ".venv", "*cache*", "demo-spool")
        shutil.copytree(ROOT, tree, ignore=left_out)
        (tree / mutant.path.relative_to(ROOT)).write_text(mutant.source)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
        env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=tree, env=env, capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> int:
    """Run them, print what survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", default="", help="only modules whose path contains this")
    parser.add_argument("--sample", type=int, help="only so many, chosen by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plays", type=int, help="so many plays for each mutant, at most about")
    parser.add_argument(
        "--reach", type=Path, metavar="FILE", help="what reaches what: kept, and used again"
    )
    parser.add_argument("--memory", action="store_true", help="do without the tests on a real disk")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    paths = [
        p for t in TARGETS for p in ([ROOT / t] if t.endswith(".py") else sorted((ROOT / t).glob("*.py")))
    ]
    found = [m for p in paths if args.only in str(p) for m in mutants(p)]
    if args.sample:
        found = random.Random(args.seed).sample(found, min(args.sample, len(found)))
    print(f"{len(found)} mutants", flush=True)
    if args.reach is not None and args.reach.exists():
        by_tests, by_plays = pickle.loads(args.reach.read_bytes())
    else:
        by_tests = reached_by_tests(paths)
        by_plays = reached_by_plays(plays(), paths, args.jobs)
        if args.reach is not None:
            args.reach.write_bytes(pickle.dumps((by_tests, by_plays)))
    print(f"lines reached by tests: {len(by_tests)}, by plays: {len(by_plays)}", flush=True)

    def lives(mutant: Mutant) -> bool:
        lines = [(str(mutant.path), line) for line in range(mutant.first, mutant.last + 1)]
        tests = list(dict.fromkeys(t for line in lines for t in by_tests.get(line, ())))
        some = list(dict.fromkeys(p for line in lines for p in by_plays.get(line, ())))
        if args.plays:
            some = spread(some, args.plays)
        return lives_in_memory(mutant, tests, some) and (args.memory or lives_on_disk(mutant))

    alive: list[Mutant] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for number, (mutant, survives) in enumerate(zip(found, pool.map(lives, found), strict=True), 1):
            if survives:
                alive.append(mutant)
                print(f"survives: {mutant}", flush=True)
            if number % 20 == 0:
                print(f"{number} of {len(found)}, {len(alive)} survive", flush=True)
    print(f"{len(found)} mutants, {len(found) - len(alive)} killed, {len(alive)} survive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
