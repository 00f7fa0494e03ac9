"""Django's Tasks framework on a spool: set BACKEND to "spool.django.SpoolBackend"."""

from spool.django.backend import SpoolBackend

__all__ = ["SpoolBackend"]
