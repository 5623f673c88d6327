"""The front door's document: what other origins' pages may do, and that by default they may not."""

from __future__ import annotations

from typing import Any

import pytest

from month1_caching_gateway.gateway import load_config
from month6_capstone.gateway.routes import document
from month6_capstone.gateway.service import GatewayProcessSettings
from scalelab.errors import InvalidInput

RATE = {"capacity": 1.0, "rate_per_s": 1.0}


def config(*origins: str) -> Any:
    """The document as the gateway checks it at its start."""
    return load_config(
        document(
            identity_url="http://127.0.0.1:1",
            catalog_url="http://127.0.0.1:2",
            orders_url="http://127.0.0.1:3",
            rates={"anonymous": RATE, "customer": RATE, "sign_in": RATE},
            origins=origins,
        )
    )


def test_by_default_no_other_page_may_use_the_shop() -> None:
    """Closed until somebody names an origin."""
    assert GatewayProcessSettings.model_fields["cors_origins"].default == ""
    assert {route.cors for route in config().route_table().routes} == {None}


def test_a_named_origin_may_use_every_route_with_a_token_and_a_key() -> None:
    """It may send what an order needs and read what follows from one; never with cookies."""
    policies = {route.cors for route in config("https://shop.example").route_table().routes}
    (policy,) = policies
    assert policy is not None
    assert policy.origins == {"https://shop.example"}
    assert {"authorization", "idempotency-key"} <= set(policy.headers)
    assert {"location", "x-consistency-token"} <= set(policy.expose)
    assert not policy.credentials


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "null"])
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origin: str) -> None:
    """A mistyped one would otherwise fail at every visitor instead."""
    with pytest.raises(InvalidInput):
        config(origin)
