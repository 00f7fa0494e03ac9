"""The command spool: one module per family of verbs, imported only when its verb is used."""
