"""Every verb of the command: the module that does it, what it does in a line."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """`module` of spool.command has `options(parser)` and `run(args)`; `group` orders the help."""

    module: str
    group: str
    text: str


VERBS: dict[str, Verb] = {
    "submit": Verb("submit", "Submit", "submit a task and print its id"),
    "run": Verb("run", "Submit", "run a command as a task"),
    "ls": Verb("ls", "Look", "list tasks in the order of the queue"),
    "show": Verb("show", "Look", "all of a task's life"),
    "status": Verb("status", "Look", "what runs, what comes next, what holds the queue"),
    "why": Verb("why", "Look", "why a task does not run yet, in one line"),
    "log": Verb("log", "Look", "what a task printed"),
    "wait": Verb("wait", "Look", "wait until tasks have ended"),
    "watch": Verb("watch", "Look", "print events as they come"),
    "cancel": Verb("change", "Change", "end tasks; what runs is killed"),
    "retry": Verb("change", "Change", "run failed, cancelled or held tasks again"),
    "hold": Verb("change", "Change", "keep tasks from running until they are released"),
    "release": Verb("change", "Change", "let held tasks go on"),
    "move": Verb("change", "Change", "give waiting tasks another class, place or time"),
    "pause": Verb("pause", "Change", "start nothing until resume"),
    "resume": Verb("pause", "Change", "take back a pause or drain"),
    "drain": Verb("pause", "Change", "start nothing, finish what runs"),
    "init": Verb("init", "Keep", "make a spool, or complete one"),
    "doctor": Verb("doctor", "Keep", "check that a spool can work here"),
    "fsck": Verb("fsck", "Keep", "check that everything is where it belongs"),
    "completion": Verb("completion", "Keep", "print completions for bash, zsh or fish"),
}
