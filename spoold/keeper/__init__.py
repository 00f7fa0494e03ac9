"""The keeper: a small process of its own that starts the handlers and leaves nothing of them behind.

    python -m spoold.keeper FD [--lease FD] [--begun FD] [--keep FD]...

Stand-alone: these modules and the standard library. Descriptors after --keep (locks) stay open until the
end. The one after --lease reads as when the lease of this node is over (orders.py): after that nothing
is started, whatever was ordered before. To the one after --begun the key of each attempt is appended, a
line each, right before it begins. FD is a socket to spoold; JSON objects, one a line, go over it:

    hello    no_new_privs                                        first, options
    start    key argv env cwd stdin log log_limit [socket] [lane] [ahead rank]
             [niceness: cgroup nice ionice oom_score_adj cpu ...] -> started | refused | returned
    recall   lane                                                -> returned, for all that wait in it
    kill     key grace                                           -> returned | the exit that follows
    quit                                                         -> end of file

    started  key pid since ahead                                 with the next report, or soon, or never
    exit     key exit signal rss cpu since seconds logged tail log_error
    refused  key errno error                                     it was never started
    returned key                                                 nor was this, as it had to wait
    protocol error                                               the line was not understood

With `ahead`, a number, an order begins when fewer than so many of its lane run, the first by rank before
the others. One without it begins at once, or, where others of its lane wait, makes room for one more of
them. Exits of a lane in which enough waits are told some together. What waits goes back when it is
recalled or killed, or what runs is slow (lanes.py).

With `socket` true a descriptor comes beside the message (SCM_RIGHTS), and is what the handler reads.

Every orphan of a handler becomes a child of the keeper (a subreaper), so nothing escapes by setsid
or a double fork. When spoold dies in any way, everything below the keeper is killed at once, by a
thread that does nothing else: the other may wait for a file server in a log or a program.

A handler that leaves nothing costs five calls at its end beyond reading its output: read of the
signalfd, waitid (who), killpg while its number is still its own, wait4, waitid (is any other
child there?). With others alive: one more, a pread of /proc/loadavg for the last process number
given out, and one look at each number given out since its start that is not a handler's.
"""

NAME = "spool-keeper"
