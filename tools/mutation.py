"""Delete one statement after the other and see whether anything notices.

    python tools/mutation.py [--jobs 2] [--only PART_OF_PATH] [--sample N] [--seed S]

Every statement of the modules below that does something (a call, an assignment, a raise) is replaced
by `pass`, each in a process of its own, which then plays the stories of tests/crash and histories of
tests/simulation in the order in which they are likely to notice: every story once, a crash before
each step, an error of the disk, a power cut, then histories by chance. What none of them notices is
tried once more with the tests in TESTS, on a real disk. What is printed at the end is either a line
that is not needed, or one whose test is missing.
"""

from __future__ import annotations

import argparse
import ast
import errno
import importlib
import logging
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TARGETS = ("spoold/effects/store.py", "spoold/effects/group.py", "spoold/recovery.py", "spoold/core")
TESTS = (
    "tests/property",
    "tests/e2e/test_verbs.py",
    "tests/e2e/test_notify.py",
    "tests/e2e/test_deadlines.py",
    "tests/e2e/test_damage.py",
    "tests/crash/test_damaged.py",
    "tests/crash/test_full_disk.py",
)
CPU = 1200  # seconds; what is not noticed takes 200 on a quiet machine; going round in circles is noticed
PATIENCE = 900  # seconds for TESTS
CUTS = 3  # power cuts before each step
SEEDS = 20  # histories
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
                if isinstance(node, KINDS) and not docstring:
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
    function = getattr(owner, "fget", None) or getattr(owner, "__wrapped__", owner)
    function.__code__ = code  # type: ignore[attr-defined]


def noticed() -> str:
    """What notices, of all that is played in memory; empty if nothing does."""
    from tests.crash.everywhere import Fault, play, steps
    from tests.crash.scenarios import STORIES
    from tests.simulation.faults import CHANGES, WRITES
    from tests.simulation.run import simulate
    from tests.simulation.soak import KINDS as PLANS

    def faults(n: int) -> list[list[Fault]]:
        full = Fault(n=n, error=errno.ENOSPC, verbs=CHANGES, times=1 + n % 3)
        broken = Fault(n=n, error=errno.EIO, verbs=WRITES)
        cuts = [Fault(n=n, cut=seed) for seed in range(CUTS)]
        return [[Fault(n=n)], [full, broken, Fault(n=n, again=n * 7 % 13)], cuts]

    try:
        for story in STORIES:
            play(story, Fault(n=1 << 30))
        for round_ in range(3):
            for story in STORIES:
                for n in range(steps(story)):
                    for fault in faults(n)[round_]:
                        play(story, fault)
        for seed in range(SEEDS):
            history = simulate(seed, shrink=0, **PLANS[seed % len(PLANS)])
            if history.problem is not None:
                return repr(history.problem)
    except BaseException as problem:  # noqa: BLE001 - a simulated crash is none of Exception
        return repr(problem)
    return ""


def lives_in_memory(mutant: Mutant) -> bool:
    """Whether nothing in memory notices; in a child, for a bounded time."""
    child = multiprocessing.get_context("fork").Process(target=_child, args=(mutant,))
    child.start()
    child.join()
    return child.exitcode == 0


def _child(mutant: Mutant) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    put_in(mutant)
    sys.exit(bool(noticed()))


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
    if problem := noticed():
        print(f"something is wrong without any mutant: {problem}")
        return 1
    alive: list[Mutant] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for number, (mutant, lives) in enumerate(
            zip(found, pool.map(lives_in_memory, found), strict=True), 1
        ):
            if lives and (args.memory or lives_on_disk(mutant)):
                alive.append(mutant)
                print(f"survives: {mutant}", flush=True)
            if number % 5 == 0:
                print(f"{number} of {len(found)}, {len(alive)} survive", flush=True)
    print(f"{len(found)} mutants, {len(found) - len(alive)} killed, {len(alive)} survive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
