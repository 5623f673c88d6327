"""What the shoppers will do, decided before anything runs.

A plan is a pure function of its seed: who arrives when, which pages they look at, what they buy,
with which card, and which requests are sent twice. Arrivals are open-loop (a Poisson process):
a slow shop does not slow the shoppers down, so queueing shows up in the latencies instead of
hiding in the load generator. Products are chosen by a Zipf-like rank, as real catalogues are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate

PAYING_CARD = "tok_4242424242424242"
DECLINED_CARD = "tok_4000000000000002"
SLOW_CARD = "tok_4000000000000119"
"""Charges first, then does not answer in time: the case in which naive shops charge twice."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of a run, each 0..1. `zipf_exponent`: 0 is uniform, 1 is a typical catalogue."""

    declined: float = 0.05
    slow_card: float = 0.02
    sent_twice: float = 0.05
    zipf_exponent: float = 1.0
    pages_per_order: int = 4


@dataclass(frozen=True, slots=True)
class Visit:
    """One shopper's visit. at_s: seconds after the start of the run, non-decreasing in a plan."""

    at_s: float
    user: int
    pages: tuple[str, ...]
    lines: tuple[tuple[str, int], ...]
    card_token: str
    key: str
    sent_twice: bool


def product_ids(count: int) -> list[str]:
    """The identifiers of a seeded catalogue: p-0001 … in rank order."""
    return [f"p-{n:04d}" for n in range(1, count + 1)]


def plan(
    *, seed: int, users: int, products: int, orders_per_s: float, seconds: float, mix: Mix
) -> list[Visit]:
    """The visits of a run in order of arrival; the same arguments give the same plan."""
    rng = random.Random(seed)
    ids = product_ids(products)
    weights = list(accumulate(1.0 / rank**mix.zipf_exponent for rank in range(1, products + 1)))
    visits: list[Visit] = []
    at_s = rng.expovariate(orders_per_s)
    while at_s < seconds:
        visits.append(_visit(rng, at_s, len(visits), seed, users, ids, weights, mix))
        at_s += rng.expovariate(orders_per_s)
    return visits


def _visit(
    rng: random.Random,
    at_s: float,
    number: int,
    seed: int,
    users: int,
    ids: list[str],
    weights: list[float],
    mix: Mix,
) -> Visit:
    pages = tuple(rng.choices(ids, cum_weights=weights, k=mix.pages_per_order))
    bought = dict.fromkeys(pages[: rng.randint(1, 3)])
    draw = rng.random()
    card = (
        DECLINED_CARD
        if draw < mix.declined
        else SLOW_CARD
        if draw < mix.declined + mix.slow_card
        else PAYING_CARD
    )
    return Visit(
        at_s=at_s,
        user=rng.randrange(users),
        pages=pages,
        lines=tuple((product, rng.randint(1, 2)) for product in bought),
        card_token=card,
        key=f"visit-{seed}-{number}",
        sent_twice=rng.random() < mix.sent_twice,
    )
