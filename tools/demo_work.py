"""What the handlers of the demonstration do: `demo_work.py KIND`, as spoold runs it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def checksum(args: dict[str, Any]) -> dict[str, Any]:
    """The SHA-256 of a file."""
    return {"sha256": hashlib.sha256(Path(args["file"]).read_bytes()).hexdigest()}


def pack(args: dict[str, Any]) -> dict[str, Any]:
    """A compressed copy of a file in $OUT: written aside, then renamed, so that a kill leaves no half."""
    data = Path(args["file"]).read_bytes()
    time.sleep(args["pause"])  # these files are small, and there is something to watch
    target = Path(os.environ["OUT"]) / (args["file"].replace("/", "-") + ".gz")
    part = target.with_suffix(".part")
    part.write_bytes(gzip.compress(data))
    part.replace(target)
    return {"from": len(data), "to": target.stat().st_size, "file": target.name}


def flaky(args: dict[str, Any]) -> dict[str, Any]:
    """Fails as often as it is told, then works."""
    attempt = int(os.environ["SPOOL_ATTEMPT"])
    if attempt <= args["failures"]:
        sys.exit(f"the server does not answer (attempt {attempt})")  # exit status 1: try again
    return {"bytes": 4096}


def report(args: dict[str, Any]) -> dict[str, Any]:
    """How much has been packed by now."""
    return {"packed": len(list(Path(os.environ["OUT"]).glob("*.gz"))), "of": args["of"]}


def main() -> int:
    """Do one task; print a line for its log, write its result where spoold looks for it."""
    kinds = {"checksum": checksum, "pack": pack, "flaky": flaky, "report": report}
    result = kinds[sys.argv[1]](json.load(sys.stdin))
    print(f"{sys.argv[1]}: {result}")
    Path(os.environ["SPOOL_RESULT"]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
