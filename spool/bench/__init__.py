"""How fast a spool is on a disk, beside the raw calls it is made of; `spool bench` and tools/bench."""
