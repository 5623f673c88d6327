"""What waits for a client: bounded by what it follows, ascending, the latest at the end."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.orders import Status, StatusChange
from month3_messaging.status import ClientQueue, Update

ONE, TWO = UUID(int=1), UUID(int=2)


def update(order_id: UUID, version: int) -> Update:
    change = StatusChange(version, Status.PAID, datetime(2026, 1, 1, tzinfo=UTC))
    return Update(order_id, change)


def following(*orders: UUID) -> ClientQueue:
    queue = ClientQueue()
    for order_id in orders:
        queue.follow(order_id)
        queue.load(order_id, 0)
    return queue


def taken(queue: ClientQueue) -> list[tuple[UUID, int]]:
    return [(one.order_id, one.change.version) for one in queue.take()]


def test_the_latest_state_of_an_order_wins() -> None:
    """Q1, Q3: what was not handed out in time is superseded."""
    queue = following(ONE, TWO)
    for version in range(1, 101):
        queue.offer(update(ONE, version))
    queue.offer(update(TWO, 1))
    assert len(queue) == 2
    assert taken(queue) == [(ONE, 100), (TWO, 1)]


def test_old_news_is_none() -> None:
    """Q2: two relays say everything twice, and a late notification changes nothing."""
    queue = following(ONE)
    assert queue.offer(update(ONE, 2))
    assert taken(queue) == [(ONE, 2)]
    assert not queue.offer(update(ONE, 2))
    assert not queue.offer(update(ONE, 1))
    assert taken(queue) == []


def test_news_waits_while_the_history_is_read() -> None:
    """Q2: the history up to 2 was handed out, then 3 may follow; 1 and 2 are dropped."""
    queue = ClientQueue()
    queue.follow(ONE)
    assert not queue.offer(update(ONE, 2))
    assert taken(queue) == []
    queue.load(ONE, 2)
    assert taken(queue) == []
    queue.follow(ONE)
    queue.offer(update(ONE, 3))
    queue.load(ONE, 2)
    assert taken(queue) == [(ONE, 3)]


def test_nothing_comes_of_an_order_that_is_not_followed() -> None:
    """Q4: neither before nor after."""
    queue = following(ONE)
    assert not queue.offer(update(TWO, 1))
    queue.offer(update(ONE, 1))
    queue.unfollow(ONE)
    assert taken(queue) == []
    queue.load(ONE, 5)
    assert queue.followed == ()


def test_an_update_is_passed_on_only_where_nothing_waits_and_it_is_news() -> None:
    """Q2, Q4: it counts as handed out; what is loading, old, unknown or behind others waits."""
    queue = following(ONE, TWO)
    assert queue.pass_on(update(ONE, 2))
    assert not queue.pass_on(update(ONE, 2))
    assert not queue.pass_on(update(UUID(int=3), 1))
    assert queue.known(ONE) == 2
    queue.offer(update(TWO, 1))
    assert not queue.pass_on(update(ONE, 3))
    assert taken(queue) == [(TWO, 1)]
    queue.follow(TWO)
    assert not queue.pass_on(update(TWO, 5))


def test_an_updates_bytes_are_made_once() -> None:
    """However many clients it goes to."""
    made = 0

    def encoded(one: Update) -> bytes:
        nonlocal made
        made += 1
        return str(one.change.version).encode()

    one = update(ONE, 7)
    assert [one.frame(encoded), one.frame(encoded)] == [b"7", b"7"]
    assert made == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from([ONE, TWO]), st.integers(1, 9)),
        st.tuples(st.just("take"), st.just(ONE), st.just(0)),
        st.tuples(st.just("reload"), st.sampled_from([ONE, TWO]), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(STEPS)
def test_versions_ascend_and_the_latest_arrives(steps: list[tuple[str, UUID, int]]) -> None:
    """Q1 to Q3 for any interleaving of offers, takes, and histories read anew."""
    queue = following(ONE, TWO)
    known = {ONE: 0, TWO: 0}
    newest = {ONE: 0, TWO: 0}
    for step, order_id, version in [*steps, ("take", ONE, 0)]:
        if step == "offer":
            queue.offer(update(order_id, version))
            newest[order_id] = max(newest[order_id], version)
        elif step == "reload":
            queue.load(order_id, max(version, known[order_id]))
            known[order_id] = max(version, known[order_id])
        else:
            for order, given_out in taken(queue):
                assert given_out > known[order]
                known[order] = given_out
        assert len(queue) <= 2
    assert all(known[order] >= newest[order] for order in known)
