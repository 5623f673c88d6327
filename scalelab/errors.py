"""One error tree for every process: stable codes, a retryable flag, typed fields.

Errors know nothing of HTTP, Kafka or SQL. `scalelab.web.problem` maps them to status codes in
one place; consumers decide on `retryable`. Drivers translate their library's exceptions at the
edge with `raise ... from`, so that no driver exception travels further.

`OutcomeUnknown` is not `Unavailable`: the request may have taken effect. Whoever catches it must
ask again with the same key, never assume that nothing happened.
"""

from __future__ import annotations

from typing import ClassVar


class ScalelabError(Exception):
    """Root of the tree. `code` is stable: programs match on it, people read the message."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self._code = code

    @property
    def stable_code(self) -> str:
        """The instance's own code where it names a narrower case, else its class's code."""
        return self._code or self.code


class InvalidInput(ScalelabError):
    """The caller broke a rule that is written down; nothing was changed. `field` names where."""

    code = "invalid_input"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.field = field


class Unauthenticated(ScalelabError):
    """No identity, or one that does not verify. Nothing was changed."""

    code = "unauthenticated"


class Forbidden(ScalelabError):
    """A known identity that may not do this. Nothing was changed."""

    code = "forbidden"


class NotFound(ScalelabError):
    """The thing does not exist, or not for this caller. Nothing was changed."""

    code = "not_found"


class Conflict(ScalelabError):
    """The state does not allow this now. Nothing was changed."""

    code = "conflict"


class IdempotencyMismatch(ScalelabError):
    """An idempotency key came again with another request. Nothing was changed."""

    code = "idempotency_key_reused"


class TooLarge(ScalelabError):
    """A body, header or list is over its limit. Nothing was changed."""

    code = "too_large"


class Retryable(ScalelabError):
    """Worth asking again, not before `retry_after_s` seconds. Raised only as one of its kinds."""

    code = "retry_later"
    retryable = True

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Overloaded(Retryable):
    """Refused to protect the service; nothing was changed. Try again after `retry_after_s`."""

    code = "overloaded"


class RateLimited(Overloaded):
    """The caller used up its own allowance."""

    code = "rate_limited"


class BreakerOpen(Overloaded):
    """A circuit breaker refused the call before it was sent."""

    code = "breaker_open"


class Unavailable(Retryable):
    """A dependency could not be reached; the request was not carried out there."""

    code = "unavailable"


class DeadlineExceeded(Unavailable):
    """The time given ran out before the request was sent, so nothing was changed."""

    code = "deadline_exceeded"


class OutcomeUnknown(Retryable):
    """Sent, but no answer: it may have taken effect. Ask again with the same idempotency key."""

    code = "outcome_unknown"


class CorruptData(ScalelabError):
    """Stored or received bytes do not mean what they must. Never retried; a person must look."""

    code = "corrupt_data"


class InvariantBroken(AssertionError):
    """A rule of our own is broken. The component stops; nobody catches this to retry."""
