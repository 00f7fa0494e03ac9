"""Whether everything in the demonstration ended as it should, judged by what stands on disk."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spool import Spool

ROOT = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """Something did not go as it should; str() says what."""


def check(spool: Spool, kinds: dict[str, str], files: dict[str, str], out: Path) -> None:
    """Failed says what is wrong. `kinds`: id -> task; `files`: id -> the file its result is about."""
    done = {row.id for row in spool.list("done")}
    every = [row.id for row in spool.list()]
    for task_id, task in kinds.items():
        if task_id not in done:
            raise Failed(f"{task} {task_id} is {spool.get(task_id).state}, not done")
    if sorted(every) != sorted(kinds):
        raise Failed(f"{len(kinds)} tasks were submitted, {len(every)} are there")
    for task_id, file in files.items():
        result, data = spool.get(task_id).result, (ROOT / file).read_bytes()
        if "sha256" in result:
            good = result["sha256"] == hashlib.sha256(data).hexdigest()
        else:
            good = gzip.decompress((out / result["file"]).read_bytes()) == data
        if not good:
            raise Failed(f"the result for {file} is wrong")
    fsck = [sys.executable, "-m", "spool", "--spool", spool.path, "fsck"]
    look = subprocess.run(fsck, cwd=ROOT, capture_output=True, text=True, check=False)
    if look.returncode:
        raise Failed(f"fsck complains: {look.stdout}{look.stderr}")


def check_course(outcomes: list[str], seen: list[tuple[str, str]], lifted: str) -> int:
    """Failed if what was to be shown did not happen; returns how many attempts the kill cost.

    `outcomes`: of the attempts of the task that fails; `seen`: (event, id) of the journal.
    """
    if outcomes != ["error", "error", "ok"]:
        raise Failed(f"fetch.page went {outcomes}, should have failed twice")
    if ("lift", lifted) not in seen:
        raise Failed("report.day was not lifted")
    lost = sum(what == "lose" for what, _ in seen)
    if not lost:
        raise Failed("no task was running when spoold was killed")
    return lost


def commands(place: Path, task_id: str) -> list[str]:
    """Three commands to look with, as they work from here."""
    bin_ = Path(sys.executable).parent
    spool = _near(bin_ / "spool")
    if not (bin_ / "spool").exists():
        spool = f"PYTHONPATH={_near(ROOT)} {_near(Path(sys.executable))} -m spool"
    return [
        f"{spool} --spool {place} ls --all",
        f"{spool} --spool {place} show {task_id}",
        f"ls {place}/done/* {place}/out",
    ]


def _near(path: Path) -> str:
    """Relative where it is below the working directory."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
