"""Every example in README and manual runs: shell and Python, with the real daemon, in a home of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.docs.mdoc import PAGES, ROOT, examples

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {"spool": "spool.command.main", "spoold": "spoold.daemon"}
RUN = {"sh": ["sh", "-eu"], "python": [sys.executable]}


def readme() -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of README."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def runnable(blocks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [block for block in blocks if block[0] in RUN]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory, with both commands in bin/."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, module in COMMANDS.items():
        code = f"import sys; from {module} import main; sys.exit(main())"
        script = place / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        script.chmod(0o755)
    return tmp_path


def run(home: Path, blocks: list[tuple[str, str]]) -> None:
    """Run blocks one after the other, as a reader would; whatever they started ends with them."""
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    env["PYTHONFAULTHANDLER"] = "1"  # tells where it hangs
    env["PYTEST_DEBUG_TEMPROOT"] = str(
        home
    )  # or an example's pytest deletes, for minutes, what others left behind
    for name in ("SPOOL_DIR", "XDG_STATE_HOME"):
        env.pop(name, None)
    sessions = []
    try:
        for language, text in blocks:
            log = home / "output"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [*RUN[language], "-c", text],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=home,
                    start_new_session=True,
                )
                sessions.append(process.pid)
                try:
                    process.wait(90)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGABRT)
                    process.wait()
                    pytest.fail(f"does not end:\n{text}\n{log.read_text()}")
            assert process.returncode == 0, f"{text}\n{log.read_text()}"
    finally:
        for session in sessions:
            end(session)


def end(session: int) -> None:
    """End what a block left running: its daemon, and with it the handlers."""
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_the_readme_has_a_shell_and_a_python_example() -> None:
    assert {language for language, _ in runnable(readme())} == {"sh", "python"}


def test_the_examples_of_the_readme_run_and_its_parent_runs_again(home: Path) -> None:
    blocks = runnable(readme())
    more, two = "spool submit order.ship", "test $(spool ls done | grep -c order.ship) = 2"
    run(home, [*blocks, ("sh", more), blocks[-1], ("sh", two)])


BLOCKS = [
    (page.name, needs, (language, text))
    for page in PAGES
    for language, needs, text in examples(page.name)
    if language in RUN
]


def test_pages_have_examples_that_run() -> None:
    assert {page for page, _, _ in BLOCKS} >= {"spool.1", "spool.5", "spool.7", "spool-recipes.7"}


@pytest.mark.parametrize(
    ("page", "needs", "block"), BLOCKS, ids=[f"{block[0]}-{n}" for n, block in enumerate(BLOCKS)]
)
def test_an_example_of_a_page_runs_by_itself(
    home: Path, page: str, needs: str, block: tuple[str, str]
) -> None:
    missing = [name for name in needs.split() if shutil.which(name) is None and find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    run(home, [block])
