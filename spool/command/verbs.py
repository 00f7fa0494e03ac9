"""Every verb of the command: the module that does it, what it does in a line."""

from __future__ import annotations

# Module of spool.command (with `options(parser)` and `run(args)`), group in the help, text.
VERBS: dict[str, tuple[str, str, str]] = {
    "submit": ("submit", "Submit", "submit a task and print its id"),
    "run": ("run", "Submit", "run a command as a task"),
    "ls": ("ls", "Look", "list tasks in the order of the queue"),
    "show": ("show", "Look", "all of a task's life"),
    "status": ("status", "Look", "what runs, what comes next, what holds the queue"),
    "shape": ("shape", "Look", "for how long what waits has been due"),
    "nodes": ("nodes", "Look", "which daemons serve a spool, and how each of them is"),
    "why": ("why", "Look", "why a task does not run yet, in one line"),
    "log": ("log", "Look", "what a task printed"),
    "wait": ("wait", "Look", "wait until tasks have ended"),
    "history": ("history", "Look", "what happened: the journal, filtered, or as it grows"),
    "errors": ("errors", "Look", "what fails again and again, and what is to be done about it"),
    "watch": ("watch", "Look", "print events as they come"),
    "top": ("top", "Look", "what goes on, live, on a terminal"),
    "dash": ("dash", "Look", "what goes on, live, in a browser"),
    "cancel": ("change", "Change", "end tasks; what runs is killed"),
    "retry": ("change", "Change", "run failed, cancelled or held tasks again"),
    "hold": ("change", "Change", "keep tasks from running until they are released"),
    "release": ("change", "Change", "let held tasks go on"),
    "move": ("change", "Change", "give waiting tasks another class, place or time"),
    "replay": ("replay", "Change", "run what has ended once more, here or in another spool"),
    "edit": ("edit", "Change", "change a pending task in an editor"),
    "cron": ("cron", "Change", "what recurs: list, run, pause, explain, import"),
    "pause": ("pause", "Change", "start nothing until resume"),
    "resume": ("pause", "Change", "take back a pause or drain"),
    "drain": ("pause", "Change", "start nothing, finish what runs"),
    "init": ("init", "Keep", "make a spool, or complete one"),
    "doctor": ("doctor", "Keep", "check that a spool can work here"),
    "prune": ("prune", "Keep", "pack and remove old history now"),
    "metrics": ("metrics", "Keep", "print what is measured, or serve it over HTTP"),
    "bench": ("bench", "Keep", "measure how fast a spool is on this disk"),
    "fsck": ("fsck", "Keep", "check that everything is where it belongs"),
    "check-deploy": ("check_deploy", "Keep", "check that new code can run the tasks that wait"),
    "completion": ("completion", "Keep", "print completions for bash, zsh or fish"),
}
# These take several spools.
SEVERAL = ("submit", "ls", "show", "status", "wait", "watch")
