"""Delete one statement after the other and see whether a test fails.

    python tools/mutation.py [--jobs 2] [--only PART_OF_PATH] [--sample N] [--seed S]

Every statement of the modules below that does something (a call, an assignment, a raise) is replaced
by `pass` in a copy of the tree, and the tests named here are run there. A mutant that no test kills
is printed at the end: either the line is not needed, or a test is missing.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("spoold/effects/store.py", "spoold/recovery.py", "spoold/core")
TESTS = (
    "tests/property/test_order.py",
    "tests/crash/test_every_step.py",
    "tests/simulation",
    "tests/e2e/test_verbs.py",
    "tests/e2e/test_notify.py",
    "tests/e2e/test_deadlines.py",
)
PATIENCE = 900  # seconds; a mutant that hangs the tests is a dead one
KINDS = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete, ast.Raise)


@dataclass(frozen=True)
class Mutant:
    """One statement to be replaced."""

    path: Path
    first: int
    last: int
    text: str


def mutants(path: Path) -> list[Mutant]:
    """The statements of a module, inside functions, that do something."""
    source = path.read_text()
    lines = source.splitlines()
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, KINDS) or node.end_lineno is None:
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            found.append(Mutant(path, node.lineno, node.end_lineno, lines[node.lineno - 1].strip()))
    return sorted(set(found), key=lambda m: m.first)


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass without the statement."""
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "*cache*", "demo-spool")
        )
        target = tree / mutant.path.relative_to(ROOT)
        lines = target.read_text().splitlines()
        indent = len(lines[mutant.first - 1]) - len(lines[mutant.first - 1].lstrip())
        lines[mutant.first - 1 : mutant.last] = [" " * indent + "pass"]
        target.write_text("\n".join(lines) + "\n")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
        ]
        env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*command, *TESTS], cwd=tree, env=env, capture_output=True, timeout=PATIENCE, check=False
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
    args = parser.parse_args()
    paths = [
        p for t in TARGETS for p in ([ROOT / t] if t.endswith(".py") else sorted((ROOT / t).glob("*.py")))
    ]
    found = [m for p in paths if args.only in str(p) for m in mutants(p)]
    if args.sample:
        found = random.Random(args.seed).sample(found, min(args.sample, len(found)))
    print(f"{len(found)} mutants", flush=True)
    alive = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for number, (mutant, lives) in enumerate(zip(found, pool.map(survives, found), strict=True), 1):
            if lives:
                alive.append(mutant)
                where = f"{mutant.path.relative_to(ROOT)}:{mutant.first}"
                print(f"survives: {where}: {mutant.text}", flush=True)
            if number % 20 == 0:
                print(f"{number} of {len(found)}, {len(alive)} survive", flush=True)
    print(f"{len(found)} mutants, {len(found) - len(alive)} killed, {len(alive)} survive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
