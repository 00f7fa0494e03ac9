"""Django's Tasks framework with the backend, a real daemon, and workers that import the project."""

# ruff: noqa: E402 - Django wants to know its settings first
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if find_spec("django") is None or not (find_spec("django.tasks") or find_spec("django_tasks")):
    pytest.skip("neither Django 6 nor django-tasks is installed", allow_module_level=True)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.e2e.django_shop.settings")
import django

django.setup()

from django.db import transaction
from django.utils import timezone

from spool import Invalid, Spool
from spool.django import framework
from spool.django.backend import SpoolBackend, name_of
from spool.init import init
from spool.testing.plugin import spool as kit  # noqa: F401 - as the plugin gives it
from spool.times import moment
from tests.e2e.django_shop import tasks
from tests.e2e.live import ROOT, Live, toml, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from spool.testing import Tester

    Make = Callable[..., Live]

HANDLER: dict[str, Any] = {
    "python": "spool.django.worker",
    "cwd": str(ROOT),
    "env": {"DJANGO_SETTINGS_MODULE": "tests.e2e.django_shop.settings"},
    "backoff": "1ms",
}


def bound(**more: Any) -> str:
    """The queues and what runs them."""
    words = "".join(f"{key} = {toml(value)}\n" for key, value in (HANDLER | more).items())
    return "\n".join(f'[handlers."{queue}.*"]\n{words}' for queue in ("default", "mail", "slow"))


@pytest.fixture
def spool(spool_at: Make, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A spool that serves nothing yet."""
    live = spool_at(bound())
    monkeypatch.setenv("SPOOL_DIR", str(live.root))
    return live


def ended(result: Any) -> Any:
    def look() -> bool:
        result.refresh()
        return bool(result.is_finished)

    until(look, f"{result} ends")
    return result


def test_a_task_is_enqueued_run_and_its_result_read(spool: Live) -> None:
    result = tasks.add.enqueue(2, b=3)
    assert result.status == framework.TaskResultStatus.READY
    assert result.enqueued_at is not None
    assert tasks.add.get_result(result.id).args == [2]
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    spool.start()
    assert ended(result).return_value == {"sum": 5}
    assert result.errors == []
    assert result.attempts == 1
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.started_at == result.last_attempted_at
    again = tasks.add.get_result(result.id)
    assert again == result
    assert again.kwargs == {"b": 3}


def test_a_task_can_be_enqueued_and_looked_at_from_a_coroutine(spool: Live) -> None:
    async def go() -> Any:
        return await tasks.later.aenqueue("hello")

    result = asyncio.run(go())
    spool.start()
    assert ended(result).return_value == "HELLO"
    assert asyncio.run(tasks.later.aget_result(result.id)).return_value == "HELLO"


def test_a_failure_tells_its_exception_and_every_attempt(spool: Live) -> None:
    spool.start()
    result = ended(tasks.breaks.enqueue("no paper"))
    assert result.status == framework.TaskResultStatus.FAILED
    assert [error.exception_class for error in result.errors] == [tasks.Broken] * 4  # 3 retries
    assert result.attempts == 4
    assert "raise Broken(text)" in result.errors[0].traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_queue_priority_and_context_arrive(spool: Live) -> None:
    result = tasks.who.enqueue("zoe")
    name = name_of("mail", tasks.who.module_path)
    view = Spool(spool.root).get(result.id)
    assert (view.task, view.priority) == (name, "high")
    spool.start()
    assert ended(result).return_value == ["zoe", 1, result.id, "RUNNING"]
    assert (result.task.queue_name, result.task.priority) == ("mail", 10)


def test_a_task_waits_for_its_time(spool: Live) -> None:
    spool.start()
    at = timezone.now() + timedelta(hours=1)
    result = tasks.add.using(run_after=at, priority=-1, queue_name="mail").enqueue(1)
    entry = spool.entry(result.id, "pending")
    assert moment(entry.time) == at
    assert entry.prio == "low"
    found = tasks.add.get_result(result.id)
    assert found.status == framework.TaskResultStatus.READY
    assert (found.task.run_after, found.task.priority, found.task.queue_name) == (at, -1, "mail")


def test_an_attempt_that_is_tried_again_is_no_end(spool: Live) -> None:
    spool.start()
    result = ended(tasks.second_time.enqueue())
    assert result.return_value == 2
    assert [error.exception_class_path for error in result.errors] == ["spool.Retry"]


def test_what_is_enqueued_in_a_transaction_is_submitted_when_that_is_committed(spool: Live) -> None:
    with transaction.atomic():
        result = tasks.committed.enqueue(1)
        assert result.enqueued_at is None
        with pytest.raises(framework.TaskResultDoesNotExist):
            tasks.committed.get_result(result.id)
    assert result.enqueued_at is not None
    gone: Any = None
    with pytest.raises(RuntimeError), transaction.atomic():
        gone = tasks.committed.enqueue(2)
        raise RuntimeError
    spool.start()
    assert ended(result).return_value == 1
    with pytest.raises(framework.TaskResultDoesNotExist):
        tasks.committed.get_result(gone.id)


def test_what_is_wrong_is_told_at_once_and_submits_nothing(spool: Live) -> None:
    with pytest.raises(TypeError):
        tasks.add.enqueue(object())
    with pytest.raises(framework.InvalidTask, match="Queue 'nowhere'"):
        tasks.add.using(queue_name="nowhere")
    for value in ({1: 2}, 1 << 64, "\ud800"):
        with pytest.raises(Invalid, match=r"^args\.args\[0\]: must be (JSON|UTF-8)"):
            tasks.add.enqueue(value)
    with transaction.atomic(), pytest.raises(Invalid, match="bytes"):
        tasks.committed.enqueue("x" * (2 << 20))
    assert list((spool.root / "incoming").iterdir()) == []


def test_a_task_of_the_program_itself_is_refused_for_no_worker_would_know_it(
    spool: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.add.func, "__module__", "__main__")
    with pytest.raises(framework.InvalidTask, match=r"__main__\.add .* no worker imports"):
        tasks.add.enqueue(1)
    assert list((spool.root / "incoming").iterdir()) == []


def test_no_id_and_no_file_of_others_is_a_result(spool: Live) -> None:
    for task_id in ("nonsense", "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"):
        with pytest.raises(framework.TaskResultDoesNotExist):
            tasks.add.get_result(task_id)
    for meta in ({}, {"django": {"task": "os.system"}}, {"django": {"task": tasks.add.module_path}}):
        task_id = Spool(spool.root).submit("default.x", meta=meta)
        with pytest.raises(framework.TaskResultDoesNotExist):
            tasks.add.get_result(task_id)
    other = tasks.later.enqueue("x")
    with pytest.raises(Exception, match="does not match"):
        tasks.add.get_result(other.id)


def test_a_result_can_be_read_where_nobody_has_imported_its_task(spool: Live) -> None:
    result = tasks.add.enqueue(1)
    code = f"""
import django
django.setup()
from spool.django.framework import task_backends
print(task_backends["default"].get_result("{result.id}").task.module_path)
"""
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.stdout == f"{tasks.add.module_path}\n", asked.stderr


def test_a_long_name_is_cut_and_found_all_the_same(spool: Live) -> None:
    result = tasks.a_name_that_is_far_too_long_for_the_name_of_a_task_in_a_spool.enqueue()
    spool.start()
    assert ended(result).return_value == "short"


@pytest.mark.parametrize("queue", ["default", "slow"])
def test_each_backend_has_its_own_spool(
    spool_at: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    init(str(tmp_path / "one"))
    places = {"SHOP_ONE": str(tmp_path / "one"), "SHOP_TWO": str(tmp_path / "spool")}
    spool = spool_at(bound(env=HANDLER["env"] | places))
    monkeypatch.setitem(framework.task_backends["two"].options, "spool", spool.root)
    spool.start()
    result = ended(tasks.where.using(backend="two", queue_name=queue).enqueue())
    assert result.return_value == "two"
    assert result.backend == "two"


def test_a_backend_that_is_configured_no_more_is_named_by_the_failure(spool: Live) -> None:
    lost = SpoolBackend("lost", {}).enqueue(tasks.add, [1], {})
    spool.start()
    result = ended(tasks.add.get_result(lost.id))
    assert result.errors[0].exception_class is framework.InvalidTaskBackend
    assert "TASKS has no 'lost'" in result.errors[0].traceback


def test_in_a_test_all_goes_to_its_own_spool_and_runs_there(
    kit: Tester,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    init(str(tmp_path / "real"))
    for alias in ("default", "two"):
        monkeypatch.setitem(framework.task_backends[alias].options, "spool", tmp_path / "real")
    first = tasks.two_steps.enqueue()
    kit.assert_submitted("default.tests.e2e.django_shop.tasks.two_steps", args=[], kwargs={})
    assert not any((tmp_path / "real" / "incoming").iterdir())
    kit.run_ready()
    first.refresh()
    second = tasks.add.using(backend="two").get_result(first.return_value)
    assert second.return_value == {"sum": 2}
    assert kit.result_of("slow.tests.e2e.django_shop.tasks.add") == {"sum": 2}
    failed = tasks.breaks.enqueue("no paper")
    kit.run_all()
    failed.refresh()
    assert [error.exception_class for error in failed.errors] == [tasks.Broken] * 4


def test_signals_are_sent_where_the_task_runs(spool: Live) -> None:
    spool.start()
    good, bad = tasks.add.enqueue(1), tasks.breaks.enqueue("")
    ended(good)
    ended(bad)
    heard = [line for line in spool.log(good.id).decode().splitlines() if line.startswith("add ")]
    assert heard == ["add RUNNING", "add SUCCESSFUL"]
    assert b"breaks FAILED" in spool.log(bad.id)


@pytest.mark.parametrize(
    ("how", "raised", "said"),
    [
        ("sound", False, "SUCCESSFUL"),
        ("retried", True, "FAILED spool.Retry"),
        ("retried", False, "FAILED spool.Retry"),
        ("cancelled", True, "FAILED spool.Cancelled"),
        ("timeout", True, "FAILED builtins.TimeoutError"),
        ("exit", True, "FAILED builtins.SystemExit"),
        ("no json", False, "FAILED builtins.ChildProcessError"),
        ("too long", False, "FAILED builtins.ChildProcessError"),
    ],
)
def test_every_end_of_an_attempt_is_signalled_as_it_is_recorded(
    kit: Tester,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    how: str,
    raised: bool,
    said: str,
) -> None:
    result = tasks.ends.enqueue(how, raised)
    kit.run_ready()
    assert capsys.readouterr().out.splitlines()[:2] == ["ends RUNNING", f"ends {said}"]
    result.refresh()
    assert [error.exception_class_path for error in result.errors] == said.split()[1:]


@pytest.mark.parametrize("raised", [True, False])
def test_a_snooze_is_neither_an_end_nor_an_error(
    kit: Tester,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: bool,
) -> None:
    result = tasks.ends.enqueue("snoozed", raised)
    kit.run_ready()
    assert capsys.readouterr().out == "ends RUNNING\n"
    monkeypatch.setitem(tasks.ENDS, "snoozed", "done")
    kit.run_all()
    assert capsys.readouterr().out == "ends RUNNING\nends SUCCESSFUL\n"
    result.refresh()
    assert (result.return_value, result.errors) == ("done", [])


def test_no_forked_child_signals_an_end(spool: Live) -> None:
    spool.start()
    result = ended(tasks.forks.enqueue())
    assert result.status == framework.TaskResultStatus.SUCCESSFUL
    heard = [line for line in spool.log(result.id).decode().splitlines() if line.startswith("forks ")]
    assert heard == ["forks RUNNING", "forks SUCCESSFUL"]


def test_an_attempt_that_a_stop_cuts_off_is_no_end(
    spool_at: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_at('drain_grace = "100ms"\n' + bound())
    monkeypatch.setenv("SPOOL_DIR", str(spool.root))
    spool.start()
    result = tasks.sleeps.enqueue(str(spool.notes / "asleep"))
    until((spool.notes / "asleep").exists, "it sleeps")
    spool.stop()
    assert b"FAILED" not in spool.log(result.id)


def test_settings_that_are_wrong_are_refused_by_name(spool: Live, tmp_path: Any) -> None:
    for params, word in (
        ({"OPTIONS": {"retry": 1}}, "retries"),
        ({"OPTIONS": {"retries": "five"}}, r"TASKS\['default'\]: retries"),
        ({"OPTIONS": {"retries": -1}}, "retries"),
        ({"OPTIONS": {"timeout": "soon"}}, "timeout"),
        ({"OPTIONS": {"notify": "a b"}}, "notify"),
        ({"OPTIONS": {"backoff": {"first": 1}}}, "backoff"),
        ({"OPTIONS": ["x"]}, "OPTIONS must be a dict"),
        ({"OPTIONS": {7: 1}}, "no option 7"),
        ({"OPTIONS": {"spool": 3}}, "spool must be a path, not 3"),
        ({"OPTIONS": {"on_commit": "no"}}, "on_commit must be True or False"),
        ({"QUEUES": []}, "QUEUES"),
        ({"QUEUES": ["a b"]}, "'a b'"),
    ):
        with pytest.raises(framework.InvalidTaskBackend, match=word):
            SpoolBackend("default", params)
    assert list(SpoolBackend("default", {}).check()) == []
    sound = {"retries": 2, "timeout": timedelta(minutes=5), "notify": "a", "backoff": "1s"}
    SpoolBackend("default", {"OPTIONS": sound})
    [error] = SpoolBackend("default", {"OPTIONS": {"spool": tmp_path / "none"}}).check()
    assert "none" in error.msg


@pytest.mark.parametrize(
    "lines", ["", 'exec = ["true"]', 'notify = "other"', 'python = "tests.e2e.django_shop.tasks"']
)
def test_check_names_a_queue_that_no_worker_of_django_runs(
    spool_at: Make, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    spool = spool_at(bound() + f'\n[handlers."fast.*"]\n{lines}' * bool(lines))
    monkeypatch.setenv("SPOOL_DIR", str(spool.root))
    [warning] = SpoolBackend("default", {"QUEUES": ["default", "fast"]}).check()
    assert "queue fast" in warning.msg
    assert '[handlers."fast.*"]\npython = "spool.django.worker"' in warning.hint


def test_check_asks_the_backend_of_a_project_that_imports_no_tasks_yet(tmp_path: Any) -> None:
    (tmp_path / "fresh.py").write_text(
        'SECRET_KEY = "for a test alone"\n'
        'INSTALLED_APPS = ["spool.django"]\n'
        'TASKS = {"default": {"BACKEND": "spool.django.SpoolBackend", "OPTIONS": {"spool": "/nowhere"}}}\n'
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "fresh"}
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check"], env=env, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "spool.E001" in checked.stderr
    assert "/nowhere" in checked.stderr
