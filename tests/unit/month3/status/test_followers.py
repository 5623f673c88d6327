"""Who is told what, and how many may listen."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from month3_messaging.orders import Status, StatusChange
from month3_messaging.status import Followers, Update
from scalelab.errors import Overloaded, RateLimited

ONE, TWO = UUID(int=1), UUID(int=2)
CHANGE = StatusChange(1, Status.PAID, datetime(2026, 1, 1, tzinfo=UTC))


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[UUID] = []
        self.looks = 0

    def hear(self, update: Update) -> None:
        self.heard.append(update.order_id)

    def look_again(self) -> None:
        self.looks += 1


def test_only_followers_of_an_order_hear_of_it() -> None:
    """Everyone is told to look, each once, however many orders it follows."""
    followers, ear, other = Followers(per_user=1, in_all=1), Ear(), Ear()
    followers.follow(ONE, ear)
    followers.follow(TWO, ear)
    followers.follow(TWO, other)
    followers.spread(ONE, CHANGE)
    followers.look_again()
    assert (ear.heard, other.heard) == ([ONE], [])
    assert (ear.looks, other.looks) == (1, 1)


def test_nothing_is_kept_of_who_left() -> None:
    """Memory is bounded by who follows now; leaving twice is nothing."""
    followers, ear = Followers(per_user=1, in_all=1), Ear()
    followers.follow(ONE, ear)
    followers.unfollow(ONE, ear)
    followers.unfollow(ONE, ear)
    followers.spread(ONE, CHANGE)
    assert ear.heard == []
    assert followers.orders == 0


def test_who_hears_may_leave() -> None:
    """In the middle of being told."""
    followers = Followers(per_user=1, in_all=1)

    class Leaver(Ear):
        def hear(self, update: Update) -> None:
            super().hear(update)
            followers.unfollow(ONE, self)

    leavers = [Leaver(), Leaver()]
    for leaver in leavers:
        followers.follow(ONE, leaver)
    followers.spread(ONE, CHANGE)
    assert [leaver.heard for leaver in leavers] == [[ONE], [ONE]]


def test_admissions_are_bounded_per_user_and_in_all() -> None:
    """And given back."""
    followers = Followers(per_user=1, in_all=2)
    with followers.admit("ann"), followers.admit("bob"):
        with pytest.raises(RateLimited), followers.admit("ann"):
            pass
        with pytest.raises(Overloaded), followers.admit("eve"):
            pass
    with followers.admit("ann"):
        assert followers.admitted == 1
