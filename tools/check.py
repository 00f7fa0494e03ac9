"""Run every linter, compare what is made from the code with the code, and say which ones complained."""

import shutil
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
CHECKS = {
    "ruff": [str(BIN / "ruff"), "check", "."],
    "format": [str(BIN / "ruff"), "format", "--check", "."],
    "mypy": [str(BIN / "mypy")],
    "layers": [str(BIN / "lint-imports")],
    "schema": [sys.executable, "tools/schema.py", "--check"],
    "manual": [sys.executable, "tools/manual.py", "--check"],
}


def main() -> int:
    """Run them all; 1 where any complained."""
    checks = dict(CHECKS)
    pages = sorted(str(page) for page in Path("man").glob("*.[1578]"))
    if shutil.which("mandoc"):
        checks["man"] = ["mandoc", "-Tlint", "-W", "warning", *pages]
    else:
        print("check: mandoc is not installed: the manual is not linted")
    bad = []
    for name, command in checks.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            bad.append(name)
            print(done.stdout, done.stderr, sep="")
        print(f"check: {name}: {'complains' if done.returncode else 'ok'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
