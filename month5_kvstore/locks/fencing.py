"""The fence: what a lock protects accepts nothing from a holder older than one it has seen. Pure.

Theory of operation
    Tokens grow from hold to hold. The protected thing keeps the highest that was shown to it, by a
    read or by a write, and refuses lower ones. A holder that stood still past its lease has a lower
    token than its successor, and is refused from the moment the successor has shown its own.

Invariants (tests cite them)
    F1  The highest token never goes down.
    F2  After a token was shown, nothing with a lower one is accepted.

Why reads show their token too: a successor that has read and not yet written would else be
overtaken by the old holder's write, and overwrite it without knowing.
Source: Kleppmann 2016, "How to do distributed locking"; Burrows 2006, "The Chubby lock service"
(sequencers).
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import Conflict


class StaleToken(Conflict):
    """The hold is over: a later one was here. Nothing was changed; do not try again."""

    code = "stale_token"


@dataclass(frozen=True, slots=True)
class Fence:
    """highest: the highest token that was shown; 0 before any."""

    highest: int = 0

    def admit(self, token: int) -> Fence:
        """After this token was shown. Raises StaleToken for one that is lower (F2)."""
        if token < self.highest:
            raise StaleToken(f"token {token} came after token {self.highest}")
        return Fence(token)
