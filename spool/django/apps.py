"""`spool.django` in INSTALLED_APPS: `manage.py check` asks the backends though nothing imports a task."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig

from spool.django import framework as tasks


class SpoolConfig(AppConfig):
    """It has no models; its name alone would be `django`."""

    name = "spool.django"
    label = "spool"

    def ready(self) -> None:
        """The framework registers its checks when they are imported."""
        import_module(f"{tasks.task_backends.__module__}.checks")
