"""An action in an envelope: its exact text, an SSH signature over it, and what the text says of its use.

    {"signed": "{...}", "signature": "-----BEGIN SSH SIGNATURE-----...", "signer": "zoe@example.org"}

The text is the action with three fields more: `spool`, the name of the spool it is for, `created` and
`expires`; and `signer`, where it is to count under no other name of the key, whoever carries it.
Nothing of it is read before the signature over all of it has been found good.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from spool.errors import Invalid
from spool.times import DAY, MINUTE, format_span, format_utc, parse_utc

NAMESPACE = "spool"  # of ssh-keygen -Y sign -n
FIELDS = ("spool", "created", "expires")
LONGEST = 7 * DAY  # from created to expires
SKEW = 5 * MINUTE  # what the clocks of two machines may differ by
LARGEST = 16 * 1024  # bytes of a signature
START = "-----BEGIN SSH SIGNATURE-----"
SIGNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+=:/-]{0,255}")


class Envelope(Struct, frozen=True):
    """`text`: the bytes that were signed. `signer`: who says to have done it, to be proven."""

    text: bytes
    signature: bytes
    signer: str | None


def envelope_of(doc: dict[str, Any]) -> Envelope | None:
    """The envelope a document is; None where it is none; Invalid where it is a wrong one."""
    if "signed" not in doc and "signature" not in doc:
        return None
    for name in doc:
        if name not in ("signed", "signature", "signer"):
            raise Invalid(name[:64], None, "must not stand in an envelope: what is signed says it all")
    text, signature, signer = doc.get("signed"), doc.get("signature"), doc.get("signer")
    if not isinstance(text, str):
        raise Invalid("signed", None, "must be the exact text of the action, as a string")
    if not isinstance(signature, str) or not signature.startswith(START):
        raise Invalid("signature", None, f"must be what ssh-keygen -Y sign writes: {START} ...")
    if len(signature) > LARGEST or not signature.isascii():
        raise Invalid("signature", None, f"must be ASCII of at most {LARGEST} bytes")
    if signer is not None and (not isinstance(signer, str) or SIGNER.fullmatch(signer) is None):
        raise Invalid("signer", signer, "must be a name such as zoe@example.org")
    return Envelope(text.encode(), signature.encode(), signer)


def opened(doc: dict[str, Any], name: str, signer: str, now: int) -> tuple[dict[str, Any], int]:
    """The action in a signed text that is for the spool `name` and valid now (us), and when it expires.

    Invalid says what it is not: by this signer, for this spool, valid yet, valid still.
    """
    if (named := doc.get("signer", signer)) != signer:
        raise Invalid("signer", named, f"is signed for, and the envelope is taken as that of {signer}")
    for field in FIELDS:
        if not isinstance(doc.get(field), str):
            raise Invalid(field, None, "must stand in what is signed: text")
    if doc["spool"] != name:
        raise Invalid("spool", doc["spool"], f"is another spool than this one, which is {name}")
    created, expires = (_instant(doc, field) for field in FIELDS[1:])
    if expires <= created or expires - created > LONGEST:
        rule = f"must be after created, and at most {format_span(LONGEST)} after it"
        raise Invalid("expires", doc["expires"], rule)
    if created > now + SKEW:
        ahead = format_span(created - now)
        raise Invalid("created", doc["created"], f"is {ahead} ahead of this clock: not valid yet")
    if expires < now - SKEW:
        raise Invalid(
            "expires", doc["expires"], f"is over by {format_span(now - expires)}: sign it again"
        )
    return {k: v for k, v in doc.items() if k not in (*FIELDS, "signer")}, expires


def fields(name: str, now: int, lasts: int, signer: str | None = None) -> dict[str, str]:
    """The fields of a text that is signed now for a spool, good for so many us."""
    found = {"spool": name, "created": format_utc(now), "expires": format_utc(now + lasts)}
    return found if signer is None else {**found, "signer": signer}


def _instant(doc: dict[str, Any], field: str) -> int:
    try:
        return parse_utc(doc[field])
    except ValueError as problem:
        raise Invalid(field, doc[field], str(problem)) from None
