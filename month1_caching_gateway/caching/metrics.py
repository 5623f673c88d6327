"""Cache events as Prometheus counters."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from month1_caching_gateway.caching.events import (
    CacheEvent,
    EntryTooLarge,
    EntryUnreadable,
    FencesWaiting,
    FillRefused,
    HearingChanged,
    Hook,
    LeaseWaited,
    Looked,
    Outcome,
    RefreshFailed,
    StoreFailed,
    WritesLost,
    WritesWaiting,
)


def count_events(registry: CollectorRegistry, cache: str) -> Hook:
    """A hook that counts the events of the cache named `cache` in `registry`.

    cache_lookups_total{cache,outcome}: keys looked up; the outcomes are those of `Outcome`.
    cache_fills_refused_total{cache}: stale fills that were caught.
    cache_store_failures_total{cache,operation}: commands the store did not carry out.
    cache_fences_waiting{cache}, cache_fences_dropped_total{cache}: undelivered invalidations.
    cache_entries_unreadable_total{cache}: entries that were not ours or of an older shape.
    cache_entries_too_large_total{cache}: values over the store's limit for an item.
    cache_lease_waits_total{cache,outcome}: keys that another process loaded for us (waited), or
    did not within the wait (gave_up).
    cache_refreshes_failed_total{cache}: keys whose new load behind the readers failed.
    cache_hears{cache}: 1 while invalidations of other processes reach this one, else 0.
    cache_writes_waiting{cache}, cache_writes_lost_total{cache}: keys accepted by a write-behind
    and not written; keys given up.
    """
    lookups = Counter("cache_lookups", "Keys looked up.", ["cache", "outcome"], registry=registry)
    by_outcome = {outcome: lookups.labels(cache, outcome.value) for outcome in Outcome}
    hooks = (_on_store(registry, cache), _on_entries(registry, cache), _on_writes(registry, cache))

    def on_event(event: CacheEvent) -> None:
        if isinstance(event, Looked):
            by_outcome[event.outcome].inc(event.keys)
            return
        for hook in hooks:
            hook(event)

    return on_event


def _on_store(registry: CollectorRegistry, cache: str) -> Hook:
    """What the store did and did not do."""
    refused = Counter("cache_fills_refused", "Stale fills caught.", ["cache"], registry=registry)
    failures = Counter(
        "cache_store_failures", "Failed store commands.", ["cache", "operation"], registry=registry
    )
    waiting = Gauge("cache_fences_waiting", "Undelivered fences.", ["cache"], registry=registry)
    dropped = Counter("cache_fences_dropped", "Fences given up.", ["cache"], registry=registry)

    def on_event(event: CacheEvent) -> None:
        match event:
            case FillRefused():
                refused.labels(cache).inc(event.keys)
            case FencesWaiting():
                waiting.labels(cache).set(event.waiting)
                dropped.labels(cache).inc(event.dropped)
            case StoreFailed():
                failures.labels(cache, event.operation).inc()
            case _:
                pass

    return on_event


def _on_entries(registry: CollectorRegistry, cache: str) -> Hook:
    """What became of single entries, and how they were loaded."""
    unreadable = Counter(
        "cache_entries_unreadable", "Unreadable entries.", ["cache"], registry=registry
    )
    too_large = Counter(
        "cache_entries_too_large", "Entries over the limit.", ["cache"], registry=registry
    )
    leases = Counter(
        "cache_lease_waits", "Keys waited for.", ["cache", "outcome"], registry=registry
    )
    refreshes = Counter("cache_refreshes_failed", "Failed new loads.", ["cache"], registry=registry)

    def on_event(event: CacheEvent) -> None:
        match event:
            case EntryUnreadable():
                unreadable.labels(cache).inc()
            case EntryTooLarge():
                too_large.labels(cache).inc()
            case LeaseWaited():
                leases.labels(cache, "gave_up" if event.gave_up else "waited").inc(event.keys)
            case RefreshFailed():
                refreshes.labels(cache).inc(event.keys)
            case _:
                pass

    return on_event


def _on_writes(registry: CollectorRegistry, cache: str) -> Hook:
    """Whether others' writes are heard, and what became of writes that were put off."""
    hears = Gauge("cache_hears", "Whether invalidations arrive.", ["cache"], registry=registry)
    waiting = Gauge("cache_writes_waiting", "Writes not written.", ["cache"], registry=registry)
    lost = Counter("cache_writes_lost", "Writes given up.", ["cache"], registry=registry)

    def on_event(event: CacheEvent) -> None:
        match event:
            case HearingChanged():
                hears.labels(cache).set(int(event.hears))
            case WritesWaiting():
                waiting.labels(cache).set(event.waiting)
            case WritesLost():
                lost.labels(cache).inc(event.keys)
            case _:
                pass

    return on_event
