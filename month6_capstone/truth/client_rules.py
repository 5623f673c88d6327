"""What shoppers were told, against the orders that exist.

An attempt that got no answer may have made one order or none, never two. An answer of 5xx, and a
409 that says another copy is still being answered, prove nothing either. The log speaks for its own
users only: somebody else may use the shop meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from month6_capstone.truth.records import Attempt, OrderRow, World, by_id
from scalelab.lab.verify import Check, at_most_once, each, subset

UserKey = tuple[str, str]


def check_clients(world: World) -> list[Check]:
    """All rules between the client's log, the stored answers and the orders."""
    orders = by_id(world)
    oldest_kept = world.taken_at - timedelta(seconds=world.answers_kept_s)
    checks = [
        at_most_once(
            "one_order_per_request",
            [(order.user_id, order.hold_id) for order in world.orders],
            what="orders of one user on one hold",
        ),
        at_most_once(
            "order_answered_once",
            [answer.order_id for answer in world.answers if answer.order_id is not None],
            what="idempotency records name this order",
        ),
        subset(
            "order_was_answered",
            [order.order_id for order in world.orders if order.placed_at > oldest_kept],
            {answer.order_id for answer in world.answers if answer.order_id is not None},
            detail="the order exists, and no idempotency record stands beside it",
        ),
        each(
            "answered_order_exists",
            [answer for answer in world.answers if answer.order_id is not None],
            lambda answer: _missing_order(answer.order_id, answer.user_id, orders),
            lambda answer: (answer.order_id, answer.key),
        ),
    ]
    if world.attempts is None:
        return checks
    return [*checks, *_against_log(world, world.attempts)]


def _against_log(world: World, attempts: Sequence[Attempt]) -> list[Check]:
    requests: defaultdict[UserKey, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        requests[attempt.user_id, attempt.key].append(attempt)
    stored = {
        (answer.user_id, answer.key): answer.order_id
        for answer in world.answers
        if answer.order_id is not None
    }
    orders = by_id(world)
    logged_users = {attempt.user_id for attempt in attempts}
    accepted = {request: _told(tries) for request, tries in requests.items() if _told(tries)}
    refused = [request for request, tries in requests.items() if all(map(_is_final_no, tries))]
    return [
        each(
            "accepted_order_exists",
            accepted.items(),
            lambda item: _missing_order(item[1][0], item[0][0], orders),
            lambda item: (item[1][0], *item[0]),
        ),
        each(
            "same_order_on_every_answer",
            accepted.items(),
            lambda item: _different_answers(item[1], stored.get(item[0])),
            lambda item: (*item[0], *sorted(set(item[1]))),
        ),
        each(
            "refused_request_left_nothing",
            refused,
            lambda request: (
                "every try was refused, yet an order exists" if request in stored else None
            ),
            lambda request: (*request, stored.get(request, "")),
        ),
        subset(
            "order_was_asked_for",
            [order.order_id for order in world.orders if order.user_id in logged_users],
            {order_id for request, order_id in stored.items() if request in requests}
            | {order_id for told in accepted.values() for order_id in told},
            detail="the order exists, and no client asked for it",
        ),
        Check("requests_of_unknown_outcome", len(requests) - len(accepted) - len(refused)),
    ]


def _told(tries: Sequence[Attempt]) -> list[str]:
    return [attempt.order_id or "(none)" for attempt in tries if attempt.outcome == "accepted"]


def _is_final_no(attempt: Attempt) -> bool:
    status = attempt.status
    return attempt.outcome == "refused" and status is not None and status < 500 and status != 409


def _missing_order(
    order_id: str | None, user_id: str, orders: Mapping[str, OrderRow]
) -> str | None:
    order = orders.get(order_id or "")
    if order is None:
        return "the order was acknowledged and does not exist"
    return None if order.user_id == user_id else f"the order belongs to {order.user_id}"


def _different_answers(told: Sequence[str], stored: str | None) -> str | None:
    if len(set(told)) > 1:
        return "copies of one request were answered with different orders"
    if stored is not None and told[0] != stored:
        return f"the client was told {told[0]}, the record says {stored}"
    return None
