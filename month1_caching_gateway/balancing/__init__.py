"""Which endpoint gets a request, which gets none for now, and when a request is sent twice."""

from month1_caching_gateway.balancing.health import Health, HealthPolicy, next_check_s, observe
from month1_caching_gateway.balancing.hedging import HedgePolicy, Latencies, may_hedge
from month1_caching_gateway.balancing.outlier import OutlierPolicy, Track, eject
from month1_caching_gateway.balancing.policies import KEYED, Balance, Policy, policy_for
from month1_caching_gateway.balancing.retry_budget import Budget, Purse
from month1_caching_gateway.balancing.slow_start import FLOOR, ramped_weight

__all__ = [
    "FLOOR",
    "KEYED",
    "Balance",
    "Budget",
    "Health",
    "HealthPolicy",
    "HedgePolicy",
    "Latencies",
    "OutlierPolicy",
    "Policy",
    "Purse",
    "Track",
    "eject",
    "may_hedge",
    "next_check_s",
    "observe",
    "policy_for",
    "ramped_weight",
]
