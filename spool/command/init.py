"""`spool init`: make a spool, or complete one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spool.command import parser as options_of
from spool.safe import safe

if TYPE_CHECKING:
    import argparse


SHARED = ("owner", "submit", "read", "writer", "outbox")


def options(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("dir", nargs="?", metavar="DIR", help="where; made if it is not there")
    parser.add_argument("--user", action="store_true", help="your own, whatever $SPOOL_DIR says")
    shared = parser.add_argument_group("a spool for several users, made by root, see spool-security(7)")
    shared.add_argument("--system", action="store_true", help="make one, or complete one")
    shared.add_argument("--owner", metavar="USER[:GROUP]", help="who runs spoold (default: spool)")
    shared.add_argument("--submit", metavar="GROUP", help="who may drop (default: spool-submit)")
    shared.add_argument("--read", metavar="GROUP", help="who may look (default: spool-read)")
    shared.add_argument("--writer", metavar="USER", action="append", help="a box of this user's own")
    shared.add_argument("--outbox", metavar="PARENT=GROUP", action="append", help="who reads an outbox")
    options_of.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make it."""
    from spool.init import default_dir, init

    if args.dir and args.spool and os.path.abspath(args.dir) != os.path.abspath(args.spool):
        options_of.usage(args, "DIR and --spool name two directories: which one?")
    own = [name for name in SHARED if getattr(args, name)]
    if own and not args.system:
        options_of.usage(args, f"--{own[0]} goes with --system")
    named = args.dir or args.spool
    if args.user and (named or args.system):
        options_of.usage(args, "--user has a place of its own: no DIR, --spool or --system")
    environ = {k: v for k, v in os.environ.items() if not (args.user and k == "SPOOL_DIR")}
    if args.system:
        path = os.path.abspath(named or os.environ.get("SPOOL_DIR") or "/var/spool/spool")
        made = _system(args, path)
    else:
        path = os.path.abspath(named or default_dir(environ))
        made = init(path)
    if args.json:
        from spool.command.render import json_line

        print(json_line({"spool": path, "made": made}))
    else:
        print(f"made {safe(path)}" if made else f"{safe(path)} is a spool already")
    return 0


def _system(args: argparse.Namespace, path: str) -> bool:
    from msgspec.structs import replace

    from spool import sysinit

    users = sysinit.found_users(path) if os.path.exists(os.path.join(path, "format")) else None
    if users is None or not users.uid:
        users = sysinit.Users(uid=0, gid=0, submit=0, read=0)
        args.owner = args.owner or sysinit.OWNER
        args.submit, args.read = args.submit or sysinit.SUBMIT, args.read or sysinit.READ
    if args.owner:
        uid, gid = sysinit.user(args.owner)
        users = replace(users, uid=uid, gid=gid)
    for name in ("submit", "read"):
        if getattr(args, name):
            users = replace(users, **{name: sysinit.group_id(getattr(args, name))})
    for name in args.writer or ():  # whom nobody knows is told before anything is made
        sysinit.user(name)
    for text in args.outbox or ():
        sysinit.outbox(text)
    made = sysinit.init_system(path, users)
    for name in args.writer or ():
        sysinit.add_writer(path, name)
    for text in args.outbox or ():
        sysinit.add_outbox(path, text)
    return made
