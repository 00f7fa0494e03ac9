"""Run a set of the tests with every Python from 3.11 on that is found: on PATH, and of pyenv.

    python tools/pythons.py [PLACE]

Makes an environment for each below PLACE (default: build/pythons) and keeps it for the next time. Ends
with 1 where a test fails or one cannot be set up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOWEST = (3, 11)
LIVE = ("daemon", "cli", "exec", "python", "recurring", "django", "dash", "top")
SMOKE = (
    *("tests/unit", "tests/property", "tests/compat", "tests/docs/test_django_examples.py"),
    *(f"tests/e2e/test_{name}.py" for name in LIVE),
)
ASK = "import sys; print(*sys.version_info[:3])"


def found() -> dict[tuple[int, ...], str]:
    """Version -> program, one for each minor version: the newest."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [*map(Path, os.environ["PATH"].split(os.pathsep)), *pyenv.glob("*/bin")]
    newest: dict[tuple[int, ...], tuple[tuple[int, ...], str]] = {}
    for place in places:
        for path in place.glob("python3.*") if place.is_dir() else ():
            if not re.fullmatch(r"python3\.\d+", path.name) or not os.access(path, os.X_OK):
                continue
            done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False)
            version = tuple(map(int, done.stdout.split()))
            if not done.returncode and version >= LOWEST:
                newest[version[:2]] = max(newest.get(version[:2], ((), "")), (version, str(path)))
    return dict(sorted(newest.values()))


def passes(program: str, place: Path) -> bool:
    """Whether the tests pass with this Python."""
    if not (place / "bin" / "pytest").exists():
        made = [program, str(ROOT / "tools" / "setup_env.py"), str(place)]
        if subprocess.run(made, cwd=ROOT, check=False).returncode:
            return False
    words = [
        str(place / "bin" / "python"),
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        *SMOKE,
    ]
    return not subprocess.run(words, cwd=ROOT, check=False).returncode


def main() -> int:
    """Try each; say what came of it."""
    above = Path(sys.argv[1] if len(sys.argv) > 1 else "build/pythons").resolve()
    outcome = {}
    for version, program in found().items():
        name = ".".join(map(str, version))
        print(f"pythons: {name}, {program}", flush=True)
        outcome[name] = passes(program, above / name)
    for name, good in outcome.items():
        print(f"pythons: {name} {'passes' if good else 'FAILS'}")
    return 0 if outcome and all(outcome.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
