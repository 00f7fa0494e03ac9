"""Files that somebody may drop by mistake or on purpose, and what is to become of each."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Content = bytes | dict[str, Any] | Callable[[Path], None]
SECRET = "outside"  # what stands beside the spool and must never be read


@dataclass(frozen=True, slots=True)
class Case:
    """One file. `field` and `rule` (a part of it) are of its refusal; no field: it is no refusal."""

    what: str
    content: Content
    field: str = ""
    rule: str = ""
    name: bytes = b""
    fate: str = "refused"  # or ignored, or taken

    def make(self, place: Path, number: int) -> str:
        """Create the file; its name as Python spells it."""
        name = os.fsdecode(self.name or b"case-%03d.json" % number)
        path = place / name
        if callable(self.content):
            self.content(path)
            return name
        data = self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()
        path.write_bytes(data)
        return name


def _linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _node(kind: int, device: int = 0) -> Callable[[Path], None]:
    return lambda path: os.mknod(path, kind | 0o666, device)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:  # by a short way: the path of a socket has 107 bytes
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _tree(path: Path) -> None:
    path.mkdir()
    path.chmod(0o700)  # in a box with an access control list a new directory is closed to its owner
    (path / "below").mkdir()
    (path / "below").chmod(0o700)
    (path / "below" / "good.json").write_bytes(b'{"task": "note"}')


def _moded(mode: int, times: tuple[int, int] | None = None) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(b'{"task": "note"}')
        path.chmod(mode)
        if times is not None:
            os.utime(path, times)

    return make


GOOD = b'{"task": "note"}'
FILES = [
    Case("a symbolic link out of the spool", _linked(f"../../{SECRET}"), "file", "symbolic link"),
    Case("a symbolic link to nothing", _linked("nowhere.json"), "file", "symbolic link"),
    Case("a symbolic link to a good file beside it", _linked(".good"), "file", "symbolic link"),
    Case("a symbolic link to itself", _linked("loop.json"), "file", "symbolic link", b"loop.json"),
    Case("a FIFO that nobody writes to", _node(stat.S_IFIFO), "file", "FIFO"),
    Case("a socket", _socket, "file", "socket"),
    Case("an empty directory", lambda path: path.mkdir(), fate="ignored"),
    Case("a directory with files", _tree, fate="ignored"),
    Case("a terabyte of nothing", _sparse, "file", "larger than"),
    Case("a file of the year 1970", _moded(0o640, (0, 0)), fate="taken"),
    Case("a file of the year 2242", _moded(0o640, (8583062400, 8583062400)), fate="taken"),
    Case("a file with every permission", _moded(0o7777), fate="taken"),
    Case("nothing at all", b"", "document", "empty"),
    Case("half of a file", b'{"task": "note", "args": [1, 2', "document", "complete JSON"),
    Case(
        "one byte too many", b'{"task": "note", "args": "%s"}' % (b"x" * (1 << 20)), "file", "larger than"
    ),
]
DEVICES = [  # only root can make them
    Case("a character device", _node(stat.S_IFCHR, os.makedev(1, 5)), "file", "device"),
    Case("a block device", _node(stat.S_IFBLK, os.makedev(7, 255)), "file", "device"),
]
NAMES = [
    Case("a hidden file", GOOD, name=b".hidden.json", fate="ignored"),
    Case("a temporary file", GOOD, name=b"x.json.tmp", fate="ignored"),
    Case("an editor's copy", GOOD, name=b"x.json~", fate="ignored"),
    Case("another kind of file", GOOD, name=b"a.txt", fate="ignored"),
    Case("two dots", GOOD, name=b"..json", fate="ignored"),
    Case("three dots", GOOD, name=b"...", fate="ignored"),
    Case("a name of 255 bytes", GOOD, "file", "a file name is", b"n" * 250 + b".json"),
    Case("an option", GOOD, "file", "a file name is", b"-rf.json"),
    Case("a newline", GOOD, "file", "a file name is", b"a\nb.json"),
    Case("a terminal escape", GOOD, "file", "a file name is", b"a\x1b[31mb.json"),
    Case("a space", GOOD, "file", "a file name is", b"a b.json"),
    Case("a format string", GOOD, "file", "a file name is", b"%s%n.json"),
    Case("a shell command", GOOD, "file", "a file name is", b"$(id);x.json"),
    Case("bytes that are no UTF-8", GOOD, "file", "a file name is", b"\xff\xfe.json"),
    Case("a name that is not ASCII", GOOD, "file", "a file name is", "e\u0301\u202e.json".encode()),
    Case("capitals", GOOD, "file", "a file name is", b"A.JSON"),
]
DOCUMENTS = [
    Case("blanks", b" \n\t ", "document", "empty"),
    Case("a number", b"7", "document", "one JSON object"),
    Case("null", b"null", "document", "one JSON object"),
    Case("a list", b'[{"task": "note"}]', "document", '{"tasks": [...]}'),
    Case("a byte order mark", b"\xef\xbb\xbf" + GOOD, "document", "byte order mark"),
    Case("UTF-16", GOOD.decode().encode("utf-16"), "document", "UTF-16"),
    Case("UTF-16 without a mark", GOOD.decode().encode("utf-16-le"), "document", "UTF-16"),
    Case("Latin-1", b'{"task": "note", "args": "\xe9 "}', "document", "UTF-8"),
    Case("half a surrogate pair", rb'{"task": "note", "args": "\ud800"}', "args", "surrogate"),
    Case("an encoded surrogate", b'{"task": "note", "args": "\xed\xa0\x80"}', "document", "UTF-8"),
    Case("trailing NULs", GOOD + b"\0\0\0", "document", "NUL"),
    Case("two documents", GOOD + b"\n" + GOOD, "document", '{"tasks": [...]}'),
    Case("a key twice", b'{"task": "note", "task": "other"}', "task", "once"),
    Case("a key twice further down", b'{"task": "note", "args": {"a": {"b": 1, "b": 2}}}', "b", "once"),
    Case("not a number", b'{"task": "note", "args": NaN}', "document", "NaN"),
    Case("infinity", b'{"task": "note", "args": -Infinity}', "document", "Infinity"),
    Case("beyond a double", b'{"task": "note", "args": 1e400}', "document", "double"),
    Case(
        "an integer of 5000 digits",
        b'{"task": "note", "args": 1%s}' % (b"0" * 5000),
        "document",
        "64 bits",
    ),
    Case("an integer of 20 digits", b'{"task": "note", "args": 99999999999999999999}', "args", "64 bits"),
    Case(
        "a thousand levels",
        b'{"task": "note", "args": %s}' % (b"[" * 1000 + b"]" * 1000),
        "document",
        "32 levels",
    ),
    Case(
        "a hundred thousand levels", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "document", "32 levels"
    ),
    Case("a comment", b'{"task": "note"} // yes', "document", "JSON"),
    Case("a trailing comma", b'{"task": "note",}', "document", "JSON"),
    Case("single quotes", b"{'task': 'note'}", "document", "JSON"),
    Case("a megabyte of zeros", b"\0" * (1 << 20), "document", "NUL"),
    Case("seventy thousand keys", {f"k{n}": 0 for n in range(70_000)}, "k0", "no field"),
]


def _task(field: str, value: Any, rule: str, at: str = "", **more: Any) -> Case:
    return Case(
        f"{field} = {str(value)[:40]!r}", {"task": "note", field: value, **more}, at or field, rule
    )


FIELDS = [
    Case("no task", {"args": 1}, "task", "required"),
    Case("an unknown action", {"action": "delete", "ids": []}, "action", "must be one of"),
    Case("a replay of nothing", {"action": "replay", "ids": []}, "ids", "must be a list"),
    _task("prio", "high", "no field"),
    _task("v", 2, "no field"),
    _task("retries", True, "integer"),
    _task("retries", 1.5, "integer"),
    _task("retries", "3", "integer"),
    _task("retries", 10**9, "must be from"),
    _task("retries", -1, "must be from"),
    _task("backoff", 1e300, "must be"),
    _task("priority", 10**20, "64 bits"),
    _task("priority", 5, "must be one of"),
    _task("priority", "urgent", "must be one of"),
    _task("timeout", 0, "more than 0"),
    _task("timeout", -1, "must be"),
    _task("timeout", 1e12, "must be"),
    _task("timeout", "soon", "must be"),
    _task("at", "2026-02-30", "exist"),
    _task("at", "2026-11-21T24:00:00Z", "exist"),
    _task("at", "2026-11-21T12:00:61Z", "exist"),
    _task("at", "9999-12-31T23:59:59-14:00", "must"),
    _task("at", "0001-01-01T00:00:00+14:00", "must"),
    _task("at", "2300-01-01", "must"),
    _task("at", "1999-12-31", "must"),
    _task("at", "tomorrow", "must be a time"),
    _task("at", [], "must be a time"),
    _task("deadline", 1e300, "must"),
    _task("tz", "../../etc/passwd", "must"),
    _task("tz", "Z" * 300, "must"),
    _task("lead", "-5s", "must be"),
    _task("meta", [], "object"),
    _task("meta", {"x": "y" * 70_000}, "65536 bytes"),
    _task("trace", "00-zz", "traceparent"),
    _task("notify", "../../etc", "must be 1 to 64"),
    _task("notify", "", "must be 1 to 64"),
    _task("version", 1.5, "must be"),
    _task("every", "* * * * * *", "five fields"),
    _task("after", ["self"], "is no id, and no ref of a task of this batch"),
    _task("after", ["ffffffffffff7fff8fffffffffffffff"], "is no id, and no ref of a task of this batch"),
    _task("id", "ffffffffffff7fff8fffffffffffffff", "of a date between 2000 and 2100"),
    _task("key", "", "1 to 200"),
    _task("key", "k" * 201, "1 to 200"),
    _task("key", "a\nb", "can be printed"),
    _task("key_for", "1h", "goes with key"),
    _task("on_duplicate", "reject", "goes with key"),
    _task("on_failure", "run", "goes with after"),
    _task("on_duplicate", "merge", "must be one of keep"),
    _task("x-hole", "a\0b", "NUL"),
    *(
        _task("id", value, "UUIDv7")
        for value in ("../../etc", "..", "a/b", "a\nb", "\x1b[31m", "f" * 300, "", 7, None, "0" * 32)
    ),
    *(
        Case(f"task {name!r}", {"task": name}, "task", "1 to 64")
        for name in ("", "../x", "a b", "-x", "é", "t" * 65, None)
    ),
    Case(
        "part of backoff",
        {"task": "good", "backoff": {"base": 1, "faktor": 2}},
        "backoff.faktor",
        "no part",
    ),
    Case("cancel of nothing", {"action": "cancel", "ids": []}, "ids", "list of 1 to"),
    Case("cancel by a bad id", {"action": "cancel", "ids": ["x"]}, "ids[0]", "UUIDv7"),
    Case("cancel without ids", {"action": "cancel"}, "ids", "required"),
    Case(
        "cancel of a stranger",
        {"action": "cancel", "ids": ["0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"]},
        "ids",
        "no task has this id",
    ),
    Case(
        "a move to nowhere",
        {"action": "move", "ids": ["0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"]},
        "move",
        "at least one",
    ),
    Case(
        "an ack without a number",
        {"action": "ack", "id": "0193a5b27c4d7e8f9a0b1c2d3e4f5a6b"},
        "attempt",
        "required",
    ),
    Case("a batch of nothing", {"tasks": []}, "tasks", "list of 1 to"),
    Case("a batch in a batch", {"tasks": [{"task": "note", "tasks": []}]}, "tasks[0].tasks", "batch"),
    Case(
        "a batch with fields",
        {"tasks": [{"task": "note"}], "priority": "high"},
        "priority",
        "stand in each task",
    ),
]


def _run(args: Any, field: str, rule: str) -> Case:
    return Case(f"run {str(args)[:40]}", {"task": "spool.run", "args": args}, field, rule)


COMMANDS = [
    Case("an alert of nobody", {"task": "spool.alert"}, "task", "spool's own tasks"),
    Case("a name that may be ours one day", {"tasks": [{"task": "spool.x"}]}, "tasks[0].task", "spool's"),
    _run([], "args", "object"),
    _run({}, "args.argv", "required"),
    _run({"argv": "ls -l"}, "args.argv", "list"),
    _run({"argv": []}, "args.argv", "program"),
    _run({"argv": [""]}, "args.argv", "program"),
    _run({"argv": ["a", "b\0c"]}, "args.argv[1]", "NUL"),
    _run({"argv": ["a", 1]}, "args.argv[1]", "text"),
    _run({"argv": ["a"] * 1025}, "args.argv", "1024"),
    _run({"argv": ["a", "b" * 65_537]}, "args.argv[1]", "64 KiB"),
    _run({"argv": ["a"], "env": {"A=B": "c"}}, "args.env", "without ="),
    _run({"argv": ["a"], "env": {"": "c"}}, "args.env", "text without"),
    _run({"argv": ["a"], "env": {"A": "b\0c"}}, "args.env.A", "NUL"),
    *(
        _run({"argv": ["a"], "env": {name: "x"}}, "args.env", "must not set")
        for name in ("LD_PRELOAD", "BASH_FUNC_x%%", "PYTHONPATH", "NOTIFY_SOCKET", "SPOOL_ID")
    ),
    _run({"argv": ["a"], "env": {f"A{n}": "x" for n in range(501)}}, "args.env", "500"),
    _run({"argv": ["a"], "cwd": "tmp"}, "args.cwd", "absolute"),
    _run({"argv": ["a"], "cwd": "/tmp/../etc"}, "args.cwd", "without .."),
    _run({"argv": ["a"], "shell": True}, "args", "no argument"),
]
FINE = [  # strange, and all the same what somebody may want
    Case("no args", {"task": "note"}, fate="taken"),
    Case(
        "escapes and markup",
        {"task": "note", "args": "\x1b]0;x\x07<script>\u202e", "meta": {"\x1b": "</b>"}},
        fate="taken",
    ),
    Case(
        "shell words",
        {"task": "spool.run", "args": {"argv": ["/bin/true", "$(id)", "`id`", ";", "*"]}},
        fate="taken",
    ),
    Case("a time long past", {"task": "note", "at": "2026-02-01"}, fate="taken"),
    Case("Unix seconds", {"task": "note", "at": 1_790_000_000}, fate="taken"),
    Case("a local time", {"task": "note", "at": "2026-10-25 02:30", "tz": "Europe/Rome"}, fate="taken"),
    Case(
        "a deadline before its time",
        {"task": "note", "at": "2026-03-02", "deadline": "2026-03-01"},
        fate="taken",
    ),
    Case("a field of somebody else", {"task": "note", "x-else": {"deep": [1]}}, fate="taken"),
    Case("thirty-two levels", b'{"task": "note", "args": %s}' % (b"[" * 31 + b"]" * 31), fate="taken"),
    Case("a long list", {"task": "note", "args": [0] * 300_000}, fate="taken"),
    Case("blanks around it", b"\n\n  " + GOOD + b"  \n", fate="taken"),
    Case("a name of the longest kind", GOOD, name=b"n" * 128 + b".json", fate="taken"),
]
ALL = [*FILES, *NAMES, *DOCUMENTS, *FIELDS, *COMMANDS, *FINE]
