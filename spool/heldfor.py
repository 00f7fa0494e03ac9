"""Why a task is held: what `w=` in the name of its entry says, and the words for people."""

from __future__ import annotations

from typing import NamedTuple

AFTER, ASKED, POISON = "after", "asked", "poison"
# until there is code for it, or a machine it fits on
NO_HANDLER, VERSION, NO_ROOM = WANTING = ("no-handler", "version", "no-room")


class Words(NamedTuple):
    """In few words, for a list, and in a sentence, for `spool why`."""

    few: str
    sentence: str


WORDS = {
    AFTER: Words("waits for others", "waits for other tasks; `spool release {id}` lets it go on"),
    ASKED: Words("somebody asked", "held because somebody asked; `spool release {id}` lets it go on"),
    NO_HANDLER: Words(
        "no handler", 'no handler for `{task}`: bind one in spool.toml ([handlers."{task}"])'
    ),
    NO_ROOM: Words(
        "too little memory",
        "needs more memory than this machine has, as shown or declared{figures};"
        " spool.toml(5), admission",
    ),
    POISON: Words(
        "what ran it died",
        "held as poison: what ran it died too often; `spool release {id}` tries again",
    ),
    VERSION: Words(
        "no such version",
        "no code for its version ({version}): deploy some that takes it, then HUP to spoold",
    ),
}


def words(why: str) -> Words:
    """Those of a reason; one of a newer version stands for itself."""
    return WORDS.get(why) or Words(why, "held: {why}")
