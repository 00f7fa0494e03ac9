"""Its tasks."""

try:
    from django.tasks import task
    from django.tasks.signals import task_finished, task_started
except ModuleNotFoundError:
    from django_tasks import task
    from django_tasks.signals import task_finished, task_started

import os
import sys
import time

from django.dispatch import receiver

from spool import Cancelled, Retry, Snooze, SoftTimeout


class Broken(Exception):
    """What a task raises."""


@task
def add(a, b=1):
    return {"sum": a + b}


@task(queue_name="mail", priority=10, takes_context=True)
def who(context, text):
    return [text, context.attempt, context.task_result.id, str(context.task_result.status)]


@task(takes_context=True)
def where(context):
    return context.task_result.backend


@task
async def later(text):
    return text.upper()


@task
def two_steps():
    return add.using(backend="two", queue_name="slow").enqueue(1).id


@task
def breaks(text):
    raise Broken(text)


@task(takes_context=True)
def second_time(context):
    if context.attempt == 1:
        raise Retry("not yet", after="1ms")
    return context.attempt


@task
def a_name_that_is_far_too_long_for_the_name_of_a_task_in_a_spool():
    return "short"


@task(backend="committed")
def committed(number):
    return number


ENDS = {
    "sound": "yes",
    "retried": Retry("not yet"),
    "snoozed": Snooze("not yet", after="1h"),
    "cancelled": Cancelled("no need"),
    "timeout": SoftTimeout(),
    "exit": SystemExit(3),
    "no json": object(),
    "too long": "x" * (2 << 20),
}


@task
def ends(how, raised):
    found = ENDS[how]
    if raised and isinstance(found, BaseException):
        raise found
    return found


@task
def forks():
    child = os.fork()  # noqa: TID251
    if not child:
        sys.exit()
    os.waitpid(child, 0)


@task
def sleeps(mark):
    open(mark, "w").close()
    time.sleep(60)


@receiver([task_started, task_finished])
def hear(sender, task_result, **_):
    errors = [error.exception_class_path for error in task_result.errors]
    print(task_result.task.name, task_result.status, *errors, flush=True)
