"""Which record of a partition may begin and what may be committed, without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.workers.key_queues import KeyQueues
from scalelab.clients.kafka_records import Record

KEYS = ("a", "b", "c", None)


def record(offset: int, key: str | None) -> Record:
    return Record("things", 0, offset, key, b"{}", {}, 0)


@dataclass
class Model:
    """What has come, what is in hand and what is done, kept the plain way."""

    places: int
    queues: KeyQueues = field(init=False)
    came: list[Record] = field(default_factory=list[Record])
    in_hand: list[Record] = field(default_factory=list[Record])
    done: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        self.queues = KeyQueues(100, places=self.places)

    def step(self, action: tuple[str, int]) -> None:
        verb, number = action
        if verb == "add":
            offset = self.came[-1].offset + 1 + number // 7 if self.came else 100
            self.came.append(record(offset, KEYS[number % len(KEYS)]))
            self.queues.add(self.came[-1])
        elif self.in_hand:
            ended = self.in_hand.pop(number % len(self.in_hand))
            self.queues.done(ended.offset)
            self.done.add(ended.offset)
        self.in_hand.extend(self.queues.take())

    def check(self) -> None:
        open_ones = [one for one in self.came if one.offset not in self.done]
        after_all = self.came[-1].offset + 1 if self.came else 100
        assert self.queues.position == min((one.offset for one in open_ones), default=after_all)
        assert len(self.in_hand) <= self.places
        firsts: dict[str | None, int] = {}
        for one in open_ones:
            firsts.setdefault(one.key, one.offset)
        held = {one.key: one.offset for one in self.in_hand}
        assert len(held) == len(self.in_hand)
        assert all(firsts[key] == offset for key, offset in held.items())
        assert len(held) == min(self.places, len(firsts))
        assert self.queues.held == len(open_ones)
        behind = {one.offset for one in self.came if one.offset >= self.queues.position}
        assert self.queues.ahead == len(behind & self.done)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["add", "done"]), st.integers(0, 20)), max_size=60),
)
def test_order_per_key_and_the_position_hold_whatever_ends_first(
    places: int, actions: list[tuple[str, int]]
) -> None:
    """K1 to K4, against a model, after every step."""
    model = Model(places)
    for action in actions:
        model.step(action)
        model.check()


def test_a_key_that_waits_holds_the_position_and_no_other_key() -> None:
    """The first record stays in hand: ten others of another key go by, the offset stands."""
    queues = KeyQueues(0, places=2)
    queues.add(record(0, "stuck"))
    queues.add(record(1, "stuck"))
    for offset in range(2, 12):
        queues.add(record(offset, "free"))
    assert [one.offset for one in queues.take()] == [0, 2]
    for offset in range(2, 12):
        queues.done(offset)
        queues.take()
    assert (queues.position, queues.held, queues.ahead) == (0, 2, 10)
    queues.done(0)
    assert [one.offset for one in queues.take()] == [1]
    queues.done(1)
    assert (queues.position, queues.held, queues.ahead) == (12, 0, 0)


def test_only_what_is_in_hand_can_be_done() -> None:
    """A record that never began is none of the caller's."""
    queues = KeyQueues(0, places=1)
    queues.add(record(0, "a"))
    with pytest.raises(KeyError):
        queues.done(0)
