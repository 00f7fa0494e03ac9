"""The examples for Django in spool-python(7), put together as a project: what is enqueued is done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from spool.init import init
from tests.docs.mdoc import ROOT, plain, section

if TYPE_CHECKING:
    from pathlib import Path

OLD = find_spec("django_tasks") is not None
if find_spec("django") is None or not (OLD or find_spec("django.tasks")):
    pytest.skip("neither Django 6 nor django-tasks is installed", allow_module_level=True)
OLD = OLD and not find_spec("django.tasks")

PROJECT = f"""\
USE_TZ = True
SECRET_KEY = "for a test alone"
INSTALLED_APPS = ["letters", "spool.django"{', "django_tasks"' if OLD else ""}]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
"""
ASK = """
import django, subprocess, sys
django.setup()
from letters.tasks import welcome
result = welcome.enqueue("zoe@example.org")
subprocess.run([sys.executable, "-m", "spoold", "--until-idle", "-q"], check=True)
result.refresh()
print(result.status, result.return_value)
"""


def test_the_examples_make_a_project_whose_tasks_run(tmp_path: Path) -> None:
    text = section("spool-python.7", "DJANGO")
    blocks = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed", text, re.DOTALL | re.MULTILINE)
    settings, toml, module, test = map(plain, blocks)
    shop, letters = tmp_path / "shop", tmp_path / "letters"
    for place in (shop, letters):
        place.mkdir()
        (place / "__init__.py").touch()
    (shop / "settings.py").write_text(PROJECT + settings)
    (letters / "tasks.py").write_text(module.replace("django.tasks", "django_tasks") if OLD else module)
    init(str(tmp_path / "spool"))
    assert '"/srv/shop"' in toml
    enough = "admission.enabled = false\n"  # whatever else this machine does
    each = toml.replace("/srv/shop", str(tmp_path))  # "for each queue"
    every = enough + each + each.replace("mail.*", "default.*")
    (tmp_path / "spool" / "spool.toml").write_text(every)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    more = {"DJANGO_SETTINGS_MODULE": "shop.settings", "SPOOL_DIR": str(tmp_path / "spool")}
    env = {**os.environ, "PYTHONPATH": path, **more}
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check"], env=env, capture_output=True, text=True, check=False
    )
    assert "no issues" in checked.stdout, checked.stderr
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert asked.stdout == "SUCCESSFUL {'sent': 'zoe@example.org'}\n", asked.stderr
    (tmp_path / "conftest.py").write_text("import django\n\ndjango.setup()\n")
    (tmp_path / "test_letters.py").write_text(test)
    kit = [sys.executable, "-m", "pytest", "-q", "-p", "spool.testing.plugin", "test_letters.py"]
    tested = subprocess.run(kit, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "1 passed" in tested.stdout, tested.stdout
