"""What the store refuses, each with a stable code. Nothing was changed when one is raised."""

from __future__ import annotations

from scalelab.errors import Conflict, InvalidInput, NotFound, ScalelabError, TooLarge


class RevisionCompacted(Conflict):
    """The revision is older than what is kept. compacted: the oldest one that can be read."""

    code = "revision_compacted"

    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} is compacted away; the oldest kept is {compacted}")
        self.compacted = compacted


class RevisionInFuture(InvalidInput):
    """No such revision yet."""

    code = "revision_in_future"


class DuplicateKey(InvalidInput):
    """A transaction may change a key once."""

    code = "duplicate_key"


class KeyMissing(NotFound):
    """Keep the value or the lease of a key that is not there."""

    code = "key_not_found"


class LeaseMissing(NotFound):
    """The lease has expired, was revoked, or never was."""

    code = "lease_not_found"


class LeaseExists(Conflict):
    """The id asked for is in use."""

    code = "lease_exists"


class NoSpace(TooLarge):
    """Over the quota: nothing can be put or granted until space was made and the alarm disarmed."""

    code = "no_space"


class SessionMissing(Conflict):
    """The session has ended. Whether an earlier attempt of this command took effect is unknown."""

    code = "session_expired"


class SequenceForgotten(Conflict):
    """The client said that it had this answer; it cannot ask for it again."""

    code = "sequence_forgotten"


class TooManyUnacknowledged(Conflict):
    """A session keeps a bounded number of answers; acknowledge some first."""

    code = "too_many_unacknowledged"


REFUSALS: dict[str, type[ScalelabError]] = {
    kind.code: kind
    for kind in (
        RevisionInFuture,
        DuplicateKey,
        KeyMissing,
        LeaseMissing,
        LeaseExists,
        NoSpace,
        SessionMissing,
        SequenceForgotten,
        TooManyUnacknowledged,
        InvalidInput,
    )
}
"""By code, for whoever turns a `Refused` back into an error."""
