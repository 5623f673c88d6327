"""Which version of the catalogue's JSON a caller gets, and how an old one tells its end. Pure.

Two ways to name a version. In the path (/api/v2/products): whoever has the link has the version,
and every cache and log on the way sees it. In a header (/api/products with Accept or API-Version):
one address for one thing, at the price that caches must be told by Vary, and that a link in a mail
has no version. Who names none gets the oldest one served: a new version breaks nobody who did not
ask for it.

Invariants (tests cite them)
    N1  The chosen version is one that is served and that Accept does not exclude.
    N2  Of several acceptable versions the one of higher quality, then of the more specific range.
Sources: RFC 9110 section 12.5.1 (Accept), RFC 9745 (Deprecation), RFC 8594 (Sunset), RFC 5829
(successor-version).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from scalelab.errors import InvalidInput

VARY = "Accept, API-Version"
"""What an answer under the versionless address depends on."""

_VENDOR = re.compile(r"application/vnd\.scalelab\.v([1-9][0-9]{0,3})\+json")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_ANY = {"application/json": 2, "application/*": 1, "*/*": 0}


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a version was declared old, and when it may go. Both aware; sunset is not earlier."""

    deprecated_at: datetime
    sunset_at: datetime

    def __post_init__(self) -> None:
        if self.sunset_at < self.deprecated_at:
            raise InvalidInput("a version cannot go before it is declared old", field="sunset_at")

    def headers(self, successor: str) -> dict[str, str]:
        """The headers of an answer in this version. successor: path of the same thing in the
        next version."""
        return {
            "deprecation": f"@{int(self.deprecated_at.timestamp())}",
            "sunset": format_datetime(self.sunset_at.astimezone(UTC), usegmt=True),
            "link": f'<{successor}>; rel="successor-version"',
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """version: the one to answer in. media_type: of the answer, as the caller named it."""

    version: int
    media_type: str


@dataclass(frozen=True, slots=True)
class _Range:
    version: int | None
    specificity: int
    quality: float


def choose(accept: str | None, api_version: str | None, served: Sequence[int]) -> Choice:
    """The version for a request under the versionless address; `served` begins with the default.

    Raises InvalidInput: code `unknown_version` (400) for an API-Version that is not served,
    `not_acceptable` (406) where Accept leaves no version.
    """
    names = ", ".join(str(version) for version in served)
    candidates = list(served)
    if api_version is not None:
        candidates = [version for version in served if str(version) == api_version.strip()]
        if not candidates:
            raise InvalidInput(
                f"This API has the versions {names}.", field="API-Version", code="unknown_version"
            )
    ranges = _ranges("*/*" if accept is None or not accept.strip() else accept)
    rated = [(*_rate(version, ranges), -served.index(version), version) for version in candidates]
    quality, specificity, _, version = max(rated)
    if quality <= 0:
        raise InvalidInput(
            "Accept leaves no form that this API has: application/json, or "
            f"application/vnd.scalelab.vN+json with N one of {names}.",
            field="Accept",
            code="not_acceptable",
        )
    named = specificity == 3
    return Choice(
        version, f"application/vnd.scalelab.v{version}+json" if named else "application/json"
    )


def _rate(version: int, ranges: Sequence[_Range]) -> tuple[float, int]:
    """Quality of a version, and how specific the range that gave it is: the most specific rules."""
    fitting = [one for one in ranges if one.version in (None, version)]
    if not fitting:
        return 0.0, -1
    best = max(fitting, key=lambda one: (one.specificity, one.quality))
    return best.quality, best.specificity


def _ranges(accept: str) -> list[_Range]:
    """The media ranges that can mean us; one that is not well-formed is as if it were not there."""
    found: list[_Range] = []
    for element in accept.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        quality = _quality(parameters)
        vendor = _VENDOR.fullmatch(name.lower())
        if quality is None:
            continue
        if vendor is not None:
            found.append(_Range(int(vendor.group(1)), 3, quality))
        elif name.lower() in _ANY:
            found.append(_Range(None, _ANY[name.lower()], quality))
    return found


def _quality(parameters: Sequence[str]) -> float | None:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else None
    return 1.0
