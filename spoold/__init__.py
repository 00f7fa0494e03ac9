"""spoold: the daemon that serves one spool on one host."""
