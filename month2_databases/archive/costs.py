"""What a tier costs: money for keeping, money and waiting for reading. Pure arithmetic.

An archive tier is not cheaper: it moves the price from keeping to reading. Below `break_even`
whole reads a year it is cheaper, above it is not; the waiting comes on top. The default prices have
the proportions of list prices of a large provider in 2024, in US dollars; yours are an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from scalelab.errors import InvalidInput

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A way of reading. first_byte: wait. gib_usd, request_usd: what reading costs."""

    first_byte: timedelta
    gib_usd: float
    request_usd: float


@dataclass(frozen=True, slots=True)
class TierPrice:
    """keep_usd: of one GiB for a month. retrievals: by name; `direct` where nobody waits."""

    keep_usd: float
    retrievals: Mapping[str, Retrieval]

    def retrieval(self, name: str) -> Retrieval:
        """One way of reading. Raises InvalidInput, with the names that there are."""
        found = self.retrievals.get(name)
        if found is None:
            known = ", ".join(self.retrievals)
            raise InvalidInput(f"{name!r} is no retrieval; there is: {known}", field="retrieval")
        return found


COLD_PRICE = TierPrice(
    0.023, MappingProxyType({"direct": Retrieval(timedelta(0), 0.0, 0.0004 / 1000)})
)
ARCHIVE_PRICE = TierPrice(
    0.0036,
    MappingProxyType(
        {
            "expedited": Retrieval(timedelta(minutes=5), 0.03, 10.0 / 1000),
            "standard": Retrieval(timedelta(hours=5), 0.01, 0.05 / 1000),
            "bulk": Retrieval(timedelta(hours=12), 0.0, 0.025 / 1000),
        }
    ),
)


def year_usd(
    price: TierPrice, retrieval: str, *, stored_bytes: int, objects: int, reads: float
) -> float:
    """Cost of a year: keeping it all, and reading it all `reads` times."""
    way = price.retrieval(retrieval)
    gib = stored_bytes / GIB
    return 12 * gib * price.keep_usd + reads * (gib * way.gib_usd + objects * way.request_usd)


def break_even(
    cheap: TierPrice, retrieval: str, dear: TierPrice, *, stored_bytes: int, objects: int
) -> float:
    """Whole reads a year at which both cost the same; infinite where the first is never dearer."""
    both = {"stored_bytes": stored_bytes, "objects": objects}
    saved = year_usd(dear, "direct", **both, reads=0) - year_usd(cheap, retrieval, **both, reads=0)
    more = (
        year_usd(cheap, retrieval, **both, reads=1)
        - year_usd(cheap, retrieval, **both, reads=0)
        - year_usd(dear, "direct", **both, reads=1)
        + year_usd(dear, "direct", **both, reads=0)
    )
    return math.inf if more <= 0 else max(0.0, saved / more)
