"""A project of Django; its spool is $SPOOL_DIR."""

import os
from importlib.util import find_spec

USE_TZ = True
TIME_ZONE = "UTC"  # else Django gives the process, and all tests in it, the zone of Chicago
SECRET_KEY = "for tests alone"
INSTALLED_APPS = ["tests.e2e.django_shop"]
if not find_spec("django.tasks"):
    INSTALLED_APPS.append("django_tasks")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKS = {
    "default": {
        "BACKEND": "spool.django.SpoolBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"spool": os.environ.get("SHOP_ONE")},
    },
    "two": {
        "BACKEND": "spool.django.SpoolBackend",
        "QUEUES": ["default", "slow"],
        "OPTIONS": {"spool": os.environ.get("SHOP_TWO")},
    },
    "committed": {"BACKEND": "spool.django.SpoolBackend", "OPTIONS": {"on_commit": True, "retries": 0}},
}
