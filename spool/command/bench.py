"""`spool bench`: how fast a spool is on this disk and machine, beside what they can do at best."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool.command import parser as options_of

if TYPE_CHECKING:
    import argparse

    from spool.bench.figures import Figures

EPILOG = """
Spools of its own are made below DIR and removed; yours is left alone. p50 is what half of all
stay below, p99 what 99 in 100 do; x is the ratio to the start of a program by posix_spawn, taken
in between. With the disk and the machine to itself it takes about half a minute.
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.epilog = EPILOG
    parser.add_argument("dir", nargs="?", metavar="DIR", help="on which disk (default: the spool's)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options_of.add_json(parser, "print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure, then tell."""
    from spool.bench import figures, speed
    from spool.command import render
    from spool.command.bar import Bar

    above = args.dir or os.path.dirname(options_of.open_spool(args).path)
    size = speed.QUICK if args.quick else speed.FULL
    with speed.room(above, size.files) as place:
        about = figures.environment(place)
        with Bar("bench") as bar:
            found = speed.measure(place, size, lambda done, of: bar.draw(done / of, f"{done} of {of}"))
        about["load_after"] = figures.environment(place)["load"]
    if args.json:
        print(render.json_line({"quick": args.quick, "environment": about, "figures": found.rows()}))
    else:
        print("\n".join(_lines(about, found)))
    return 0


def _lines(about: dict[str, object], found: Figures) -> list[str]:
    """Two tables: one task at a time, and in bulk."""
    from spool.bench.speed import DURABILITIES
    from spool.safe import safe

    def times(group: str, name: str) -> str:
        p50, p99 = (found.of(group, f"{name}, p{p}") for p in (50, 99))
        return f"{p50['median'] / 1000:>10.2f}{p99['median'] / 1000:>10.2f}{p50['ratio']:>8.2f}"

    told = [f"{about[name]}" for name in ("file_system", "cpu")]
    lines = [safe(", ".join(told)), f"{about['cpus']} CPUs, load {about['load']}", ""]
    lines.append(f"{'one at a time, ms':<54}{'p50':>10}{'p99':>10}{'x':>8}")
    lines += [f"  {name:<52}{times(group, name)}" for group, name in found.timed()]
    lines += ["", f"{'in bulk, tasks a second':<54}" + "".join(f"{d:>10}" for d in DURABILITIES)]
    for group, name in found.paired(DURABILITIES):
        rates = [found.of(group, f"{name}, {d}")["median"] for d in DURABILITIES]
        lines.append(f"  {group + ': ' + name:<52}" + "".join(f"{rate:>10,.0f}" for rate in rates))
    rate = found.of("throughput", "exec of /bin/true, durable")["median"]
    lines += [
        "",
        f"That is {rate * 3600:,.0f} short programs an hour, durable.",
    ]
    return lines
