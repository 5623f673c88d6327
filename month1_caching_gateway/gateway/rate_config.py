"""Rates as a document says them: whom they count, by which algorithm, and what without the store.

customers: {capacity: 100, rate_per_s: 50, plans: {pro: {capacity: 1000, rate_per_s: 500}}}
exports:   {algorithm: concurrency, slots: 4, lease_s: 30, by: user, on_failure: closed}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from month1_caching_gateway.ratelimit import (
    CONCURRENCY,
    RATE_ALGORITHMS,
    CountedBy,
    FailurePolicy,
    LeasePolicy,
    LeaseRule,
    Policy,
    Rule,
)
from scalelab.errors import InvalidInput

_AlgorithmName = Literal["token_bucket", "gcra", "fixed_window", "sliding_window", "concurrency"]
_ALGORITHMS = {one.name: one for one in RATE_ALGORITHMS}


class LimitModel(BaseModel):
    """capacity and rate_per_s of a rate; slots and lease_s of a concurrency limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    capacity: Annotated[float, Field(ge=1)] | None = None
    rate_per_s: Annotated[float, Field(gt=0)] | None = None
    slots: Annotated[int, Field(ge=1)] | None = None
    lease_s: Annotated[float, Field(gt=0)] | None = None

    def policy(self) -> Policy:
        """Of a rate. Raises InvalidInput."""
        if self.capacity is None or self.rate_per_s is None or self.slots or self.lease_s:
            raise InvalidInput("a rate has capacity and rate_per_s, and nothing else")
        return Policy(self.capacity, self.rate_per_s)

    def leases(self) -> LeasePolicy:
        """Of a concurrency limit. Raises InvalidInput."""
        if self.slots is None or self.lease_s is None or self.capacity or self.rate_per_s:
            raise InvalidInput("a concurrency limit has slots and lease_s, and nothing else")
        return LeasePolicy(self.slots, self.lease_s)


class RateModel(LimitModel):
    """One named rate. by: whose allowance it is. plans: other limits for those who have them."""

    algorithm: _AlgorithmName = "token_bucket"
    by: CountedBy = CountedBy.CALLER
    on_failure: FailurePolicy = FailurePolicy.LOCAL_SHARE
    plans: dict[str, LimitModel] = {}

    @model_validator(mode="after")
    def _limits_fit(self) -> RateModel:
        try:
            self.rule("checked")
        except InvalidInput as error:
            raise ValueError(error.message) from error
        return self

    def rule(self, name: str) -> Rule | LeaseRule:
        """The checked value the gateway works with. Raises InvalidInput."""
        if self.algorithm == CONCURRENCY.name:
            slots = {plan: limit.leases() for plan, limit in self.plans.items()}
            return LeaseRule(name, self.leases(), self.by, slots, self.on_failure)
        rates = {plan: limit.policy() for plan, limit in self.plans.items()}
        algorithm = _ALGORITHMS[self.algorithm]
        return Rule(name, self.policy(), self.by, rates, algorithm, self.on_failure)
