"""`python -m spool` is the command spool."""

from __future__ import annotations

import sys

from spool.command.main import main

if __name__ == "__main__":
    sys.exit(main())
