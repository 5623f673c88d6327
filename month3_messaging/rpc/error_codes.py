"""Our errors as two words that any protocol can carry, and back. Pure.

kind: the stable code of the error's class, from which the other side rebuilds the class. code: the
narrower one (`out_of_stock`), or the same. HTTP has problem documents for this; gRPC has status
codes, which are too few (409 and 412 share one), so kind and code travel beside the status.
"""

from __future__ import annotations

from collections.abc import Mapping

from scalelab import errors
from scalelab.errors import ScalelabError

_KINDS: tuple[type[ScalelabError], ...] = (
    errors.InvalidInput,
    errors.NotFound,
    errors.Conflict,
    errors.TooLarge,
    errors.Overloaded,
    errors.DeadlineExceeded,
    errors.Unavailable,
    errors.OutcomeUnknown,
)
_BY_KIND: Mapping[str, type[ScalelabError]] = {kind.code: kind for kind in _KINDS}
INTERNAL = ("internal", "internal", "the service failed")
"""What a caller hears of a failure that is none of its business."""


def told(error: BaseException) -> tuple[str, str, str]:
    """kind, code and message for the other side; nothing of an error that is not ours."""
    for kind in _KINDS:
        if isinstance(error, kind):
            return kind.code, error.stable_code, error.message
    return INTERNAL


def rebuilt(kind: str, code: str, message: str, *, safe: bool) -> ScalelabError:
    """The error that the other side raised. An unknown kind says nothing about the effect, so it is
    OutcomeUnknown unless the call was safe (a read)."""
    known = _BY_KIND.get(kind)
    if known is not None:
        return known(message, code=None if code == known.code else code)
    if safe:
        return errors.Unavailable(message)
    return errors.OutcomeUnknown(message)
