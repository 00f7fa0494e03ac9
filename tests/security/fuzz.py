"""Any bytes under any name in incoming/: the intake takes them, refuses them in words, or waits.

`python -m tests.security.fuzz --seconds 3600` looks for bytes that break this, guided by the code they
reach; what it finds is in the file that it names.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spoold.core.values import Arrived, Invalidated
    from spoold.sources.intake import Intake

LONGEST = 4096  # bytes of an input that is looked for; the largest are in test_fuzz.py
MOST = 600  # MiB the whole process may take, the fuzzer with it
SLOWEST = 20  # seconds for one input
RULES = "".join(f'[policy."user:{uid}"]\ntasks = ["note"]\n' for uid in (60101, 60103))


class Target:
    """A spool of its own, and the two ways into it: a user's own, and one that is shared."""

    def __init__(self, place: str) -> None:
        from spool.disk import RealDisk
        from spool.init import init
        from spool.settings import load
        from spoold.sources.crowd import Crowd
        from spoold.sources.intake import Intake
        from spoold.sources.people import People

        root = os.path.join(place, "spool")
        init(root)
        self.disk = RealDisk(root)
        self.number = 0
        settings, zone = load(RULES), ZoneInfo("UTC")
        self.own = Intake(self.disk, settings, zone)
        crowd = Crowd(self.disk, People(root_counts=True), settings)
        self.shared = Intake(self.disk, settings, zone, crowd)

    def __call__(self, data: bytes) -> None:
        """An input: a byte for the length of the name (0: a good one), the name, what is in the file."""
        length = data[0] if data else 0
        self.drop(data[1 : 1 + length], data[1 + length :])

    def drop(self, name: bytes, data: bytes) -> int:
        """Look at a file, then later, when nobody waits for it any more; how many events there were."""
        if not name or b"/" in name or b"\0" in name or len(name) > 255 or name in (b".", b".."):
            self.number += 1
            name = b"in%d.json" % self.number
        path = f"incoming/{os.fsdecode(name)}"
        self.disk.write(path, data)
        found = 0
        for intake in (self.own, self.shared):
            for late in (0, 600_000_000, 1_200_000_000):
                found += sum(check(event) for event in looked(intake, late))
        self.disk.remove(path)
        for intake in (self.own, self.shared):
            assert not list(looked(intake, late))
            assert not intake.unsettled, "it is gone, and waited for"
        return found


def looked(intake: Intake, late: int = 0) -> Iterator[Arrived | Invalidated]:
    """All that an intake makes of what lies there, so many us after the start."""
    from spoold.core.values import Now

    intake.ring()
    while intake.busy:
        yield from intake.look(Now(1_790_000_000_000_000 + late, 1_000_000 + late))


def check(event: Arrived | Invalidated) -> bool:
    """What is taken can be kept; what is refused says why, in few and harmless words."""
    import orjson

    from spool.actions import Submit, decode_task, encode_task
    from spool.safe import safe
    from spoold.core.values import Invalidated

    if isinstance(event, Invalidated):
        assert event.reason["rule"]
        assert len(orjson.dumps(event.reason)) < 4096, event.reason
        assert "\x1b" not in safe(event.reason["text"])
    elif isinstance(event.request, Submit):
        for task in event.request.tasks:
            assert decode_task(encode_task(task)).id == task.id
    return True


def seeds(folder: Path) -> None:
    """The catalogue of what somebody may drop, as inputs to begin with."""
    from tests.e2e.catalogue import ALL, GOOD, Case

    folder.mkdir()
    for number, case in enumerate(ALL):
        if not callable(case.content):
            kept = folder / "made"
            Case(case.what, case.content).make(folder, 0)
            data = (folder / "case-000.json").read_bytes()[: LONGEST - 256]
            (folder / "case-000.json").rename(kept)
            kept.write_bytes(bytes([len(case.name)]) + case.name + data)
            kept.rename(folder / f"{number:03}")
    envelope = b'{"signed": "{}", "signature": "-----BEGIN SSH SIGNATURE-----", "signer": "zoe@x"}'
    for number, data in enumerate((GOOD, envelope)):
        (folder / f"more-{number}").write_bytes(b"\0" + data)


def main() -> None:
    """Run until the time is over or something is found."""
    import atheris

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="inputs; without end where left out")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--found", default="fuzz-", help="how the name of a file of a finding begins")
    args = parser.parse_args()
    with atheris.instrument_imports(include=["spool", "spoold"]):
        import spoold.sources.intake  # noqa: F401 - so that its branches are counted
    with tempfile.TemporaryDirectory() as place:
        seeds(corpus := Path(place, "corpus"))
        options = [
            f"-max_total_time={args.seconds}", f"-runs={args.runs}", f"-seed={args.seed}",
            f"-max_len={LONGEST}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MOST}",
            f"-artifact_prefix={args.found}", "-print_final_stats=1", str(corpus),
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options], Target(place))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
