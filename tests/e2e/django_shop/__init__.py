"""An application of Django with tasks, for the tests."""
