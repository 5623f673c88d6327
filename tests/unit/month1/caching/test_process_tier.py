"""Claims about the tier in the process, with busts and losses placed by hand (virtual time)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.caching import Lru, ProcessTier
from month1_caching_gateway.caching.process_tier import Slot
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput


class Bench:
    """A tier that is told, trusted until 100 s."""

    def __init__(self, *, is_told: bool = True) -> None:
        self.clock = ManualClock()
        self.tier: ProcessTier[str] = ProcessTier(
            Lru(100), ttl_s=60.0, clock=self.clock, is_told=is_told
        )
        if is_told:
            self.tier.heard(100.0)

    def put(self, key: str, version: int, until_s: float = math.inf) -> bool:
        reading = self.tier.open([key])
        try:
            return self.tier.keep(reading, key, Slot(f"v{version}", version, until_s), 1)
        finally:
            self.tier.close(reading)


def test_an_answer_stands_until_its_time_or_the_tiers() -> None:
    """The shorter of the two."""
    bench = Bench()
    assert bench.put("long", 1)
    assert bench.put("short", 1, until_s=5.0)
    bench.clock.advance(5.0)
    assert (bench.tier.get("long"), bench.tier.get("short")) == ("v1", None)
    bench.clock.advance(55.0)
    assert bench.tier.get("long") is None


def test_an_old_reading_is_not_kept_after_a_bust() -> None:
    """I1: read version 1, version 2 is announced and finds nothing, put version 1: refused."""
    bench = Bench()
    reading = bench.tier.open(["a"])
    bench.tier.bust("a", 2)
    assert not bench.tier.keep(reading, "a", Slot("v1", 1, math.inf), 1)
    assert bench.tier.keep(reading, "a", Slot("v2", 2, math.inf), 1)
    bench.tier.close(reading)
    assert bench.tier.get("a") == "v2"


def test_a_bust_without_a_version_refuses_every_reading_under_way() -> None:
    """Nobody says how new it is, so nothing read before counts; a later reading does."""
    bench = Bench()
    reading = bench.tier.open(["a"])
    bench.tier.bust("a", None)
    assert not bench.tier.keep(reading, "a", Slot("v9", 9, math.inf), 1)
    bench.tier.close(reading)
    assert bench.put("a", 9)


def test_a_bust_removes_what_is_older_and_leaves_what_is_as_new() -> None:
    """The announcement of a write that is known already costs nothing."""
    bench = Bench()
    bench.put("a", 2)
    bench.tier.bust("a", 2)
    assert bench.tier.get("a") == "v2"
    bench.tier.bust("a", 3)
    assert bench.tier.get("a") is None


def test_an_older_result_never_replaces_a_newer_one() -> None:
    """I3: two readings end in the wrong order."""
    bench = Bench()
    slow = bench.tier.open(["a"])
    bench.put("a", 2)
    assert not bench.tier.keep(slow, "a", Slot("v1", 1, math.inf), 1)
    bench.tier.close(slow)
    assert bench.tier.get("a") == "v2"


def test_nothing_is_served_beyond_the_trusted_instant() -> None:
    """I2: no word from the listener, no answer from here; with its word what stands is good."""
    bench = Bench()
    bench.tier = ProcessTier(Lru(10), ttl_s=1e9, clock=bench.clock, is_told=True)
    bench.tier.heard(10.0)
    bench.put("a", 1)
    bench.tier.heard(5.0)  # an old proof changes nothing
    bench.clock.advance(9.5)
    assert bench.tier.get("a") == "v1"
    bench.clock.advance(0.5)
    assert bench.tier.get("a") is None
    bench.tier.heard(20.0)
    assert bench.tier.get("a") == "v1"


def test_a_silent_listener_stops_the_tier_before_any_timeout_of_its_own() -> None:
    """I2 for a process that was stopped: it wakes up late and serves nothing old."""
    bench = Bench()
    bench.tier = ProcessTier(Lru(10), ttl_s=1e9, clock=bench.clock, is_told=True)
    bench.tier.heard(1.0)
    assert bench.put("a", 1)
    bench.clock.advance(3600.0)
    assert bench.tier.get("a") is None
    assert not bench.tier.is_trusted
    assert not bench.put("b", 1)


def test_a_loss_forgets_everything_and_spoils_readings_under_way() -> None:
    """What was read before the loss may have been outdated unheard."""
    bench = Bench()
    bench.put("a", 1)
    reading = bench.tier.open(["b"])
    bench.tier.lost()
    bench.tier.heard(100.0)
    assert not bench.tier.keep(reading, "b", Slot("v1", 1, math.inf), 1)
    bench.tier.close(reading)
    assert bench.tier.get("a") is None
    assert bench.put("b", 1)


def test_what_was_read_before_anybody_listened_is_not_kept() -> None:
    """I2: the first proof comes while the reading is under way."""
    bench = Bench(is_told=True)
    tier: ProcessTier[str] = ProcessTier(Lru(10), ttl_s=60.0, clock=bench.clock, is_told=True)
    reading = tier.open(["a"])
    tier.heard(100.0)
    assert not tier.keep(reading, "a", Slot("v1", 1, math.inf), 1)


def test_without_a_listener_only_the_lifetime_bounds() -> None:
    """The tier in front of Memcached."""
    bench = Bench(is_told=False)
    assert bench.put("a", 1)
    bench.clock.advance(59.0)
    assert bench.tier.get("a") == "v1"
    bench.clock.advance(1.0)
    assert bench.tier.get("a") is None


events = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 3)),
        st.tuples(st.just("keep"), st.integers(0, 3)),
        st.tuples(st.just("write"), st.just(0)),
        st.tuples(st.just("lost"), st.just(0)),
    ),
    max_size=40,
)


@given(events=events, versions=st.booleans())
def test_no_order_of_readings_and_writes_serves_an_outdated_value(
    events: list[tuple[str, int]], versions: bool
) -> None:
    """I1 for any interleaving: each reading takes the version of the instant it was opened at,
    each write is announced at once."""
    bench = Bench()
    current = 1
    readings = {}
    for what, number in events:
        if what == "open" and number not in readings:
            readings[number] = (bench.tier.open(["a"]), current)
        elif what == "keep" and number in readings:
            reading, version = readings.pop(number)
            bench.tier.keep(reading, "a", Slot(str(version), version, math.inf), 1)
            bench.tier.close(reading)
        elif what == "write":
            current += 1
            bench.tier.bust("a", current if versions else None)
        elif what == "lost":
            bench.tier.lost()
            bench.tier.heard(100.0)
        served = bench.tier.get("a")
        assert served is None or int(served) == current


def test_a_tier_without_time_is_a_mistake() -> None:
    """ttl_s bounds what everything else fails to bound."""
    with pytest.raises(InvalidInput):
        ProcessTier(Lru[Slot[str]](1), ttl_s=0.0, clock=ManualClock(), is_told=False)
