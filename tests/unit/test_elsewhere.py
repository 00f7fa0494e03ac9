"""What needs no daemon needs no Linux: the library and the command, with all that only Linux has taken away.

This is no Mac, and says nothing of one's file system. It says that nothing of ours asks for inotify,
/proc, pidfd or the like before it has looked whether that is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TAKEN_AWAY = """
import ctypes, os, select, sys, sysconfig, urllib.request

sysconfig.get_config_vars()  # of the Python that runs here
for module, names in {
    os: "O_PATH O_TMPFILE copy_file_range eventfd fdatasync getxattr listxattr memfd_create pidfd_open"
        " posix_fallocate sched_getaffinity sched_setaffinity setns setxattr splice unshare",
    select: "epoll",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("inotify", "inotify_c"):
    sys.modules[f"watchdog.observers.{name}"] = None

class Libc(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("inotify_init1", "prctl", "syncfs"):
            raise AttributeError(name)
        return super().__getattr__(name)

def hook(event, args):
    if event in ("open", "os.listdir", "os.scandir") and str(args[0]).startswith(("/proc", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", args[0])

ctypes.CDLL = Libc
sys.platform = "darwin"
sys.addaudithook(hook)
"""
EVERY_MODULE = """
import importlib, pkgutil, spool

for found in pkgutil.walk_packages(spool.__path__, "spool."):
    if not found.name.endswith("__main__") and not found.name.startswith("spool.django"):  # wants settings
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as problem:
            extra = (problem.name or "").partition(".")[0]
            if extra not in ("textual", "rich", "starlette", "uvicorn", "jinja2", "markupsafe", "django"):
                raise
"""
AT_WORK = """
from spool import Spool
from spool.command.main import main
from spool.errors import TimedOut
from spool.watch import Watch

with Watch([sys.argv[1]]) as watch:
    assert watch.polls
assert main(["init", sys.argv[1]]) == 0
with Spool(sys.argv[1]) as mine:
    task_id = mine.submit("mail.send", {"to": "zoe"}, at="+1h")
    assert mine.get(task_id).state == "incoming"
    assert list(mine.outbox("shop", timeout=0.01)) == []
    try:
        mine.wait(task_id, 0.01)
    except TimedOut:
        pass
    assert mine.status()["counts"]["incoming"] == 1
for line in (f"show {task_id}", "submit a.b x=1", "ls", "status", "history", "errors", "shape", "fsck"):
    assert main(["--spool", sys.argv[1], *line.split()]) == 0, line
"""


def run(code: str, *words: str) -> None:
    """Python as it would be without Linux."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = (sys.executable, "-c", TAKEN_AWAY + code, *words)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_library_is_imported_without_linux() -> None:
    run(EVERY_MODULE)


def test_tasks_are_submitted_and_asked_for_without_linux(tmp_path: Path) -> None:
    run(AT_WORK, str(tmp_path / "spool"))


def test_the_daemon_says_where_it_runs() -> None:
    run("from spoold.__main__ import main\nassert main() == 69")


def test_the_daemon_says_that_it_needs_proc() -> None:
    run(
        "sys.platform = 'linux'\nfrom spool import folders\nfolders.OPEN = '/nowhere'\n"
        "from spoold.__main__ import main\nassert main() == 69"
    )


def test_the_plugin_that_every_pytest_loads_costs_it_no_daemon() -> None:
    run(
        "import spool.testing.plugin\nassert not [name for name in sys.modules if name.startswith('spoold')]"
    )
