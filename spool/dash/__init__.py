"""`spool dash`: a spool in a browser; pages are rendered here, and read again when something changes."""
