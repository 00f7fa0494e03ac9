"""What `make dist` makes can be installed: manual pages, completions and units where they are looked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from typing import TYPE_CHECKING

from tests.docs.mdoc import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

MAKEFILE = (ROOT / "Makefile").read_text()


def test_what_is_installed_works_and_has_all_that_belongs_to_it(tmp_path: Path) -> None:
    recipe = re.search(r"^dist:.*\n\t\$\(BIN\)/python (.*) dist( |$)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    made = tmp_path / "made"
    dist = [sys.executable, *recipe[1].split(), str(made)]
    subprocess.run(dist, cwd=ROOT, check=True, capture_output=True)
    assert list(made.glob("spool-*.whl"))
    [archive] = made.glob("spool-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quiet = ["-q", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(tmp_path), str(archive)],
        check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("spool-*.whl")
    place = tmp_path / "place"
    subprocess.run(
        [*pip, "install", *quiet, "--ignore-installed", "--prefix", str(place), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    for page in PAGES:
        assert (place / f"share/man/man{page.suffix[1:]}" / page.name).read_text() == page.read_text()
    for unit in (ROOT / "units").rglob("*.*"):
        if unit.is_file():
            assert (place / "share/spool/units" / unit.relative_to(ROOT / "units")).is_file()
    ours = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    others = sysconfig.get_path("purelib")
    env = {**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{others}", "SPOOL_DIR": str(tmp_path / "s")}
    spool, spoold = str(place / "bin/spool"), str(place / "bin/spoold")

    def said(*words: str) -> str:
        return subprocess.run(
            words, env=env, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    for shell, name in {
        "bash": "bash-completion/completions/spool",
        "zsh": "zsh/site-functions/_spool",
        "fish": "fish/vendor_completions.d/spool.fish",
    }.items():
        assert (place / "share" / name).read_text() == said(spool, "completion", shell)
    assert said(sys.executable, "-c", "import spool; print(spool.__file__)").startswith(str(place))
    said(spool, "init")
    task_id = said(spool, "run", "--", "true").strip()
    said(spoold, "--until-idle", "-q")
    assert said(spool, "ls", "done", "--ids").split() == [task_id]


def test_the_build_asks_for_all_that_its_completions_import() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    allowed = {re.split(r"[<>=~! ]", one)[0] for one in requires}
    code = f"""
import sys
from importlib.machinery import PathFinder
class Isolated:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        found = PathFinder.find_spec(top)
        if found and "site-packages" in str(found.origin) and top not in {allowed!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Isolated())
from spool.command.main import main
main(["completion", "bash"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout
