"""What a write does to what stands: the decisions, as values. Pure.

    keep     it already is what the caller wants: nothing is changed, not even the version
    write    the precondition holds, or there is none
    refuse   the precondition does not hold (412)

`keep` goes before the precondition, as RFC 9110 section 13.1.1 allows: a caller whose first answer
was lost repeats its write with the tag it had, and must not be told that it lost a race against
itself. A caller that demands a new product (If-None-Match) is refused even by an equal one.
"""

from __future__ import annotations

from collections.abc import Callable

from month1_caching_gateway.catalog.entity_tags import Precondition
from month1_caching_gateway.catalog.product import Draft, Product, draft_of, etag
from scalelab.errors import Conflict, InvalidInput


def needs_write(
    standing: Product | None, wanted: Draft, precondition: Precondition, representation: int
) -> bool:
    """Whether `wanted` must be written over `standing` (None: nothing there); False is `keep`.

    Raises Conflict code `precondition_failed`.
    """
    is_there_already = standing is not None and draft_of(standing) == wanted
    if is_there_already and precondition.if_none_match is None:
        return False
    check(standing, precondition, representation)
    return True


def check(standing: Product | None, precondition: Precondition, representation: int) -> None:
    """Raises Conflict code `precondition_failed` unless the precondition holds."""
    if not precondition.holds(None if standing is None else etag(standing, representation)):
        raise Conflict(
            "the product is not what the precondition names; read it again",
            code="precondition_failed",
        )


def patched(
    standing: Product,
    change: Callable[[Product], Draft],
    precondition: Precondition,
    representation: int,
) -> Draft | None:
    """What a patch makes of `standing`; None if that is what it is. The patch is idempotent.

    change: raises InvalidInput if the result would be no product. A stale caller is told that it
    is stale before it is told that its patch does not fit.
    """
    if precondition.holds(etag(standing, representation)):
        wanted = change(standing)
        return None if wanted == draft_of(standing) else wanted
    if _is_applied(standing, change):
        return None
    check(standing, precondition, representation)
    return None


def _is_applied(standing: Product, change: Callable[[Product], Draft]) -> bool:
    try:
        return change(standing) == draft_of(standing)
    except InvalidInput:
        return False
