"""How a value may be used that is fresh, nearly over, or past its time. Pure.

    written ─────── fresh ───────┬── stale_while_revalidate_s ──┐
                      EARLY ▲    └────── stale_if_error_s ──────────────┐
                     (by dice)    BEHIND: served, loaded anew     FALLBACK: only if the source fails

A value that a write has outdated is not here: its fence stands in its place, and a fence is never
served, fresh or stale.

The end of freshness is an instant on the clock of whoever stored it. Clocks of two machines that
differ by d move it by d; how long an entry stands at all is counted by the store's own clock.

Source: RFC 5861 (the two stale times, there for HTTP caches).
"""

from __future__ import annotations

from enum import Enum

from month1_caching_gateway.caching.entries import Entry, Kind, Policy, lifetime_ms
from month1_caching_gateway.caching.xfetch import loads_early


class Use(Enum):
    """FRESH: serve. EARLY, BEHIND: serve and load anew behind, BEHIND is past its time. FALLBACK:
    serve only if the source fails. NONE: as if it were not there."""

    FRESH = "fresh"
    EARLY = "early"
    BEHIND = "behind"
    FALLBACK = "fallback"
    NONE = "none"


def use_of(entry: Entry, policy: Policy, *, now_ms: float, draw: float) -> Use:
    """What a reader does with a value or an absence. `draw`: uniform in 0..1 for each reader."""
    if entry.kind is Kind.FENCE:
        return Use.NONE
    if entry.fresh_until_ms == 0:
        return Use.FRESH
    left_ms = entry.fresh_until_ms - now_ms
    if left_ms > 0:
        beta = policy.early_beta
        early = beta > 0 and loads_early(
            left_ms=left_ms, load_ms=entry.load_ms, beta=beta, draw=draw
        )
        return Use.EARLY if early else Use.FRESH
    if -left_ms < policy.stale_while_revalidate_s * 1000:
        return Use.BEHIND
    if -left_ms < policy.stale_if_error_s * 1000:
        return Use.FALLBACK
    return Use.NONE


def value_entry(
    policy: Policy, version: int, payload: bytes, *, now_ms: float, load_ms: float, draw: float
) -> tuple[Entry, int]:
    """The entry of a value and how long it stands, ms: its fresh time and, if stale ones are
    served, that much more. `draw` spreads the fresh time (I3 of entries.py)."""
    fresh_ms = lifetime_ms(policy, Kind.VALUE, draw)
    if not policy.tells_freshness:
        return Entry(Kind.VALUE, version, payload), fresh_ms
    until_ms = int(now_ms) + fresh_ms
    entry = Entry(Kind.VALUE, version, payload, until_ms, max(1, round(load_ms)))
    return entry, fresh_ms + round(policy.keep_s * 1000)
