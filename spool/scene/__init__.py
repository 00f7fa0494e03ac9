"""What a spool is like now and was lately, for whoever shows it: read from its files, drawn nowhere."""
