"""Every pick as an upstream's policy."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.balancing import KEYED, Balance, policy_for
from scalelab.balancing import Backend
from scalelab.hashing import Member

POLICIES: tuple[Balance, ...] = get_args(Balance)


def backends(count: int) -> list[Backend]:
    return [Backend(f"127.0.0.1:{8000 + number}") for number in range(count)]


def members(servers: list[Backend]) -> list[Member]:
    return [Member(server.name, server.weight) for server in servers]


@pytest.mark.parametrize("balance", POLICIES)
@given(
    servers=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6),
    keys=st.lists(st.text(max_size=4), min_size=1, max_size=10),
)
def test_no_policy_names_an_unavailable_endpoint(
    balance: Balance, servers: list[tuple[int, bool]], keys: list[str]
) -> None:
    """And each names one if there is one."""
    candidates = [Backend(f"s{n}", load, up) for n, (load, up) in enumerate(servers)]
    able = {index for index, one in enumerate(candidates) if one.available}
    policy = policy_for(balance, members(candidates), random.Random(1).randrange)
    for key in keys:
        picked = policy.pick(candidates, key)
        assert picked in able if able else picked is None


@pytest.mark.parametrize("balance", sorted(KEYED))
def test_a_keyed_policy_moves_only_the_keys_of_the_one_that_left(balance: Balance) -> None:
    """The others' keys stay where they are, and the lost ones are spread over all that are left."""
    servers = backends(4)
    policy = policy_for(balance, members(servers), random.Random(1).randrange)
    keys = [f"/products/{number}" for number in range(400)]
    before = {key: policy.pick(servers, key) for key in keys}
    servers[2] = replace(servers[2], available=False)
    after = {key: policy.pick(servers, key) for key in keys}
    assert all(after[key] == place for key, place in before.items() if place != 2)
    assert {after[key] for key, place in before.items() if place == 2} == {0, 1, 3}


def test_turns_follow_weights_and_skip_who_is_away_evenly() -> None:
    """Equal: each its turn. One away: the others share alike. Weight 2: twice the turns."""
    servers = backends(3)
    policy = policy_for("round_robin", members(servers), random.Random(1).randrange)
    assert Counter(policy.pick(servers, "") for _ in range(30)) == {0: 10, 1: 10, 2: 10}
    servers[1] = replace(servers[1], available=False)
    assert Counter(policy.pick(servers, "") for _ in range(30)) == {0: 15, 2: 15}
    servers = [replace(servers[0], weight=2.0), *backends(3)[1:]]
    assert Counter(policy.pick(servers, "") for _ in range(40)) == {0: 20, 1: 10, 2: 10}


@pytest.mark.parametrize("balance", ["least_connections", "two_choices"])
def test_load_counts_against_weight(balance: Balance) -> None:
    """3 in flight at weight 4 are less than 1 at weight 1; an idle slow starter is not empty."""
    heavy = [Backend("big", in_flight=3, weight=4.0), Backend("small", in_flight=1)]
    policy = policy_for(balance, members(heavy), random.Random(1).randrange)
    assert {policy.pick(heavy, "") for _ in range(20)} == {0}
    starting = [Backend("new", weight=0.1), Backend("old", in_flight=5)]
    assert {policy.pick(starting, "") for _ in range(20)} == {1}
