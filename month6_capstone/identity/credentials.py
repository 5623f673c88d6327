"""What may be an e-mail address and a password here.

Invariants (tests cite them)
    C1  Two spellings of one address (case, surrounding blanks) normalize to one account.
    C2  What passes here fits the table and costs the hasher a bounded time.

Addresses are ASCII: for others, lower-casing differs between Python and PostgreSQL, and then two
accounts could look like one. Absent on purpose: composition rules for passwords ("one digit, one
sign") and proof that the address exists.
Source: NIST SP 800-63B section 3.1.1 (length, no composition rules, Unicode normalized); differs
in: no list of breached passwords yet.
"""

from __future__ import annotations

import re
import unicodedata

from scalelab.errors import InvalidInput

EMAIL_MAX = 254
PASSWORD_MIN = 8
PASSWORD_MAX = 128

_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"(?=.{{1,64}}@){_LOCAL}@{_LABEL}(?:\.{_LABEL})+")


def normalize_email(raw: str) -> str:
    """The one spelling of an address (C1). Raises InvalidInput, field `email`."""
    email = raw.strip().lower()
    if len(email) > EMAIL_MAX or not _EMAIL.fullmatch(email):
        raise InvalidInput("this is not an e-mail address of the form name@host", field="email")
    return email


def normalize_password(raw: str) -> str:
    """The password as it is hashed: Unicode NFC, so that two keyboards agree.

    Raises InvalidInput, field `password`, for a length outside 8..128 characters (C2).
    """
    password = unicodedata.normalize("NFC", raw)
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise InvalidInput(
            f"a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters", field="password"
        )
    return password
