"""What becomes of a failed event, decided without a broker."""

from __future__ import annotations

import pytest

from month3_messaging.workers.failure_policy import (
    ATTEMPT,
    DUE_MS,
    ERROR_STACK,
    ORIGIN_OFFSET,
    ORIGIN_TOPIC,
    Forward,
    Verdict,
    attempts_so_far,
    classify,
    describe,
    due_ms,
    forward,
    topics_of,
)
from month3_messaging.workers.ladder import DEFAULT_LADDER, ladder_of
from scalelab.errors import (
    BreakerOpen,
    Conflict,
    CorruptData,
    DeadlineExceeded,
    IdempotencyMismatch,
    InvalidInput,
    InvariantBroken,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unavailable,
)
from scalelab.resilience import Backoff


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Unavailable("x"), Verdict.AGAIN_HERE),
        (DeadlineExceeded("x"), Verdict.AGAIN_HERE),
        (OutcomeUnknown("x"), Verdict.AGAIN_HERE),
        (Overloaded("x"), Verdict.AGAIN_HERE),
        (BreakerOpen("x"), Verdict.AGAIN_HERE),
        (Conflict("x", code="serialization_failure"), Verdict.AGAIN_HERE),
        (Conflict("x"), Verdict.RETRY_LATER),
        (NotFound("x"), Verdict.RETRY_LATER),
        (LookupError("x"), Verdict.RETRY_LATER),
        (CorruptData("x"), Verdict.DEAD),
        (InvalidInput("x"), Verdict.DEAD),
        (TooLarge("x"), Verdict.DEAD),
        (IdempotencyMismatch("x"), Verdict.DEAD),
        (InvariantBroken("x"), Verdict.STOP),
    ],
)
def test_each_error_has_its_verdict(error: Exception, verdict: Verdict) -> None:
    """The table in the module's docstring, row by row."""
    assert classify(error) is verdict


def fail(
    topic: str,
    headers: dict[str, str],
    verdict: Verdict = Verdict.RETRY_LATER,
    *,
    random_unit: float = 1.0,
    tried: int = 1,
) -> Forward:
    return forward(
        verdict=verdict,
        failure=describe(LookupError("why"), "stack"),
        group="shop",
        ladder=DEFAULT_LADDER,
        topic=topic,
        partition=3,
        offset=42,
        headers=headers,
        now_ms=1_000_000,
        random_unit=random_unit,
        tried=tried,
    )


def test_the_ladder_ends_in_the_dead_letters() -> None:
    """5 s, then 1 min, then dead; producer's headers and the first origin stay."""
    first = fail("orders.order", {"ce_id": "1"})
    assert (first.topic, first.dead) == ("orders.order.shop.retry.5s", False)
    assert due_ms(first.headers) == 1_005_000
    second = fail(first.topic, first.headers)
    assert (second.topic, second.dead) == ("orders.order.shop.retry.1m", False)
    assert due_ms(second.headers) == 1_060_000
    third = fail(second.topic, second.headers)
    assert (third.topic, third.dead) == ("orders.order.shop.dlq", True)
    assert attempts_so_far(third.headers) == 3
    assert third.headers["ce_id"] == "1"
    assert third.headers[ORIGIN_TOPIC] == "orders.order"
    assert third.headers[ORIGIN_OFFSET] == "42"
    assert third.headers[ERROR_STACK] == "stack"
    assert DUE_MS not in third.headers


def test_the_wait_on_a_rung_is_drawn() -> None:
    """Full jitter: from at once to the rung's longest wait."""
    waits = [due_ms(fail("t", {}, random_unit=unit).headers) - 1_000_000 for unit in (0, 0.5, 1)]
    assert waits == [0, 2_500, 5_000]


def test_attempts_in_place_count() -> None:
    """A letter says how often it was tried, wherever that was."""
    letter = fail("orders.order", {}, Verdict.DEAD, tried=3)
    assert attempts_so_far(letter.headers) == 3


def test_poison_skips_the_ladder() -> None:
    """Dead at once."""
    assert fail("orders.order", {}, Verdict.DEAD).topic == "orders.order.shop.dlq"


def test_topics_are_those_that_forward_names() -> None:
    """What is created is what is written to."""
    assert topics_of("orders.order", "shop", DEFAULT_LADDER) == (
        "orders.order.shop.retry.5s",
        "orders.order.shop.retry.1m",
        "orders.order.shop.dlq",
    )
    capped = ladder_of(Backoff(first_s=1, factor=4, cap_s=4), tries=5)
    assert topics_of("orders.order", "shop", capped) == (
        "orders.order.shop.retry.1s",
        "orders.order.shop.retry.4s",
        "orders.order.shop.dlq",
    )


@pytest.mark.parametrize("text", ["", "-1", "one", "1.5", "٣"])
def test_a_forged_count_means_none(text: str) -> None:
    """Headers come from outside: what is no number counts as absent."""
    assert attempts_so_far({ATTEMPT: text}) == 0
    assert due_ms({DUE_MS: text}) == 0


def test_texts_are_cut_to_what_headers_bear() -> None:
    """A long message keeps its beginning, a long stack its end, where the cause is."""
    failure = describe(ValueError("m" * 10_000), "s" * 100_000 + "cause")
    assert len(failure.message) == 500
    assert len(failure.stack) == 8000
    assert failure.stack.endswith("cause")
