"""Claims about the filter in front of absent keys: it never hides a key that exists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from month1_caching_gateway.caching import KnownKeys
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput

KEYS = [f"p-{number}" for number in range(500)]


async def pages(*more: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    for start in range(0, len(KEYS), 100):
        yield KEYS[start : start + 100]
    for page in more:
        yield page


def known(*, is_told: bool = False) -> tuple[KnownKeys, ManualClock]:
    clock = ManualClock()
    return KnownKeys(500, clock=clock, is_told=is_told), clock


async def test_nothing_is_excluded_before_the_first_rebuild() -> None:
    """I2: no filter, no opinion."""
    guard, _ = known()
    assert not guard.excludes("ghost")
    assert not guard.is_ready


async def test_known_keys_pass_and_most_others_do_not() -> None:
    """I1, and about one in a hundred of the others passes."""
    guard, _ = known()
    assert await guard.rebuild(pages())
    assert not any(guard.excludes(key) for key in KEYS)
    passed = sum(not guard.excludes(f"ghost-{number}") for number in range(5_000))
    assert passed < 5_000 * 0.03


async def test_a_key_made_during_a_rebuild_is_known_after_it() -> None:
    """I1: its page was read before it was made."""
    guard, _ = known()
    await guard.rebuild(pages())

    async def slow() -> AsyncIterator[Sequence[str]]:
        yield KEYS
        guard.add("made-meanwhile")
        assert not guard.excludes("made-meanwhile")
        yield []

    assert await guard.rebuild(slow())
    assert not guard.excludes("made-meanwhile")


async def test_a_failed_rebuild_leaves_the_old_filter() -> None:
    """The source went away in the middle of its pages."""
    guard, _ = known()
    await guard.rebuild(pages())

    async def broken() -> AsyncIterator[Sequence[str]]:
        yield KEYS[:3]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await guard.rebuild(broken())
    assert not any(guard.excludes(key) for key in KEYS)
    assert await guard.rebuild(pages())


async def test_two_rebuilds_at_once_are_a_mistake() -> None:
    """The second would take the first one's additions away."""
    guard, _ = known()

    async def nested() -> AsyncIterator[Sequence[str]]:
        with pytest.raises(InvalidInput):
            await guard.rebuild(pages())
        yield KEYS

    assert await guard.rebuild(nested())


async def test_what_is_not_heard_in_time_is_not_excluded() -> None:
    """I2: another process may have made it."""
    guard, clock = known(is_told=True)
    assert not await guard.rebuild(pages())
    guard.heard(10.0)
    assert await guard.rebuild(pages())
    assert guard.excludes("ghost")
    clock.advance(10.0)
    assert not guard.excludes("ghost")
    guard.heard(20.0)
    assert guard.excludes("ghost")
    guard.bust("ghost", 1)
    assert not guard.excludes("ghost")


async def test_a_loss_excludes_nothing_until_the_next_rebuild() -> None:
    """I2: also when it came in the middle of one."""
    guard, _ = known(is_told=True)
    guard.heard(10.0)

    async def interrupted() -> AsyncIterator[Sequence[str]]:
        yield KEYS
        guard.lost()
        guard.heard(10.0)

    assert not await guard.rebuild(interrupted())
    assert not guard.excludes("ghost")
    assert await guard.rebuild(pages())
    assert guard.excludes("ghost")


async def test_a_filter_over_its_capacity_says_so() -> None:
    """And a rebuild may give it more room."""
    guard, _ = known()
    more = [[f"q-{number}" for number in range(100)]]
    await guard.rebuild(pages(*more))
    assert guard.is_full
    await guard.rebuild(pages(*more), capacity=1_000)
    assert not guard.is_full
