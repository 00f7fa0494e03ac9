"""`spool top`: a spool as it lives, on a terminal; what is shown is in head and tables, app draws."""
