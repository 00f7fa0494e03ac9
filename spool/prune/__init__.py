"""Pruning: what has ended is packed, and later removed.

    retention   the rules: how long what is kept, and what of it is too much
    due         what they say of one task that has ended
    weigh       what has ended, counted and told to the rules, for the limits
    oldfiles    what belongs to no task that is kept: packs, logs, refusals, journals
    planned     what pruning would do now, by all of these on a disk (noting) that changes nothing

`spoold.effects.packer` is who does it, a little at a time; `spool prune` asks it to, or tells what is
planned. What was packed is read by `spool.packs`.
"""
