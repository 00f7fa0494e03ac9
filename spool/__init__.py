"""spool: a message queue and task runner that is a directory."""
