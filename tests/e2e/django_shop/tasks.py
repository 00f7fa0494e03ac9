"""Its tasks."""

try:
    from django.tasks import task
    from django.tasks.signals import task_finished, task_started
except ModuleNotFoundError:
    from django_tasks import task
    from django_tasks.signals import task_finished, task_started

from django.dispatch import receiver

from spool import Retry


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


@receiver([task_started, task_finished])
def hear(sender, task_result, **_):
    print(task_result.task.name, task_result.status)
