"""Make the environment of the Makefile: a virtual environment with spool and the tools in it."""

import subprocess
import sys
import venv
from pathlib import Path

HELP = """spool: this Python cannot make a virtual environment with pip in it ({problem}).
On Debian or Ubuntu: apt install python3-venv
"""


def main() -> int:
    """Make the environment named on the command line, or say what is missing."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older one is told by
        print(f"spool needs Python 3.11 or later, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    place = Path(sys.argv[1])
    print(f"setting up {place} (once)", file=sys.stderr)
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True, clear=False).create(place)
    except (subprocess.CalledProcessError, OSError) as problem:
        print(HELP.format(problem=problem), file=sys.stderr)
        return 1
    pip = [
        str(place / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
    ]
    return subprocess.call([*pip, "-r", "requirements-dev.txt", "-e", "."])


if __name__ == "__main__":
    sys.exit(main())
