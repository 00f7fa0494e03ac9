"""A warm worker: a process that imports an application once and runs its tasks, one after the other.

    python -c ENTRY FOLDER      (see spool/apps.py)

Its standard input is a socket to spoold. JSON objects, one a line, go over it:

    hello    module spool node scratch log_limit result_limit     first
    start    id attempt task version args at deadline meta trace
    stop     id attempt why                                       timeout, cancelled or interrupt
    drain                                                         should_stop() is true from now on
    quit                                                          leave when nothing runs

    ready    takes asyncs                                         the module is imported
    broken   error                                                it could not be
    progress id attempt percent note
    end      id attempt outcome result error final delay until why facts recycle

`outcome` is done, failed, timeout, snoozed, cancelled or parked. `recycle`: the worker is spoilt and
is to be told to quit. TERM raises in a plain function what `stop` has said; the worker leaves then.
Durations and instants in messages are us. A worker whose socket is closed leaves at once.
"""
