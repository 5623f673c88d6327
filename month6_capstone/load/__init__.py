"""Shoppers for the demo and the benches: planned, open-loop, with a log of what they were told."""

from __future__ import annotations

from month6_capstone.load.client_log import Attempt, ClientLog, body_sha
from month6_capstone.load.measure import Measurements, percentile
from month6_capstone.load.plan import (
    DECLINED_CARD,
    PAYING_CARD,
    SLOW_CARD,
    Mix,
    Visit,
    plan,
    product_ids,
)
from month6_capstone.load.shoppers import LoadSettings, Placed, Shop, Shopper, run

__all__ = [
    "DECLINED_CARD",
    "PAYING_CARD",
    "SLOW_CARD",
    "Attempt",
    "ClientLog",
    "LoadSettings",
    "Measurements",
    "Mix",
    "Placed",
    "Shop",
    "Shopper",
    "Visit",
    "body_sha",
    "percentile",
    "plan",
    "product_ids",
    "run",
]
