"""What `python = "spool.django.worker"` imports: the project of $DJANGO_SETTINGS_MODULE and its tasks."""

from __future__ import annotations

import django
from django.utils.module_loading import autodiscover_modules

from spool.django import framework as tasks
from spool.django.attempt import register
from spool.django.backend import KNOWN, SpoolBackend, name_of


def register_all() -> None:
    """Every task of the installed applications, under its name in each queue there is."""
    django.setup()
    autodiscover_modules("tasks")
    backends = [one for one in tasks.task_backends.all() if isinstance(one, SpoolBackend)]
    queues = {queue for backend in backends for queue in backend.queues}
    for path, task in KNOWN.items():
        for queue in queues:
            register(task, name_of(queue, path))


register_all()
