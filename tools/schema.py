"""Print the JSON Schema of actions or of events as the code has it.

    python tools/schema.py actions      an action file
    python tools/schema.py event        an attempt record or an event
    python tools/schema.py --write      put both into schema/
    python tools/schema.py --check      1 where what stands there is not that of the code

A client in any language may check what it writes and reads against these.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from spool import eventschema, fields  # noqa: E402

MADE = {"actions": fields.schema, "event": eventschema.build}


def text(name: str) -> str:
    return json.dumps(MADE[name](), indent=1) + "\n"


def path(name: str) -> Path:
    return ROOT / "schema" / f"{name}.schema.json"


def main(words: list[str]) -> int:
    if words == ["--write"]:
        for name in MADE:
            path(name).parent.mkdir(exist_ok=True)
            path(name).write_text(text(name))
        return 0
    if words == ["--check"]:
        others = [str(path(name)) for name in MADE if path(name).read_text() != text(name)]
        print(
            *(f"{other}: is not that of the code: run tools/schema.py --write" for other in others),
            sep="\n",
        )
        return int(bool(others))
    if len(words) == 1 and words[0] in MADE:
        print(text(words[0]), end="")
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
