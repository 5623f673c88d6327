"""Whom a request is counted for."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import (
    Caller,
    CountedBy,
    MemoryStore,
    Policy,
    Rule,
    address_block,
    check_for,
)
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput

FREE, PAID = Policy(5, 0.001), Policy(50, 0.001)


def rule(by: CountedBy) -> Rule:
    return Rule("search", by, FREE, {"paid": PAID}, {"export": 4.0})


async def test_hopping_inside_a_64_escapes_nothing() -> None:
    """I1: a thousand addresses of one customer share five requests; a neighbour has its own."""
    store = MemoryStore(ManualClock())
    network = int(ipaddress.IPv6Address("2001:db8:7:1::"))
    admitted = 0
    for hop in range(1000):
        address = str(ipaddress.IPv6Address(network + hop * 0x1_0001_0001))
        check = check_for(rule(CountedBy.ADDRESS), Caller(address), "find")
        admitted += (await store.check(check.key, check.policy, cost=check.cost)).admitted
    assert admitted == 5
    neighbour = check_for(rule(CountedBy.ADDRESS), Caller("2001:db8:7:2::1"), "find")
    assert (await store.check(neighbour.key, neighbour.policy)).admitted


@given(prefix=st.integers(0, 2**64 - 1), one=st.integers(0, 2**64 - 1))
def test_every_address_of_a_64_has_its_key(prefix: int, one: int) -> None:
    """I1 for any /64 but the one whose tail spells IPv4 addresses."""
    if prefix == 0:
        return
    first = str(ipaddress.IPv6Address(prefix << 64))
    other = ipaddress.IPv6Address((prefix << 64) | one)
    assert address_block(str(other)) == address_block(first)
    assert address_block(other.exploded.upper()) == address_block(first)


@pytest.mark.parametrize(
    "spelling", ["192.0.2.7", "::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7"]
)
def test_an_ipv4_address_has_one_key_in_any_spelling(spelling: str) -> None:
    """I2: a dual-stack listener shows IPv4 callers as mapped."""
    assert address_block(spelling) == "192.0.2.7"


def test_mapped_addresses_are_not_one_block() -> None:
    """All IPv4 callers of a dual-stack listener lie in one /64; they are not one customer."""
    assert address_block("::ffff:192.0.2.7") != address_block("::ffff:192.0.2.8")


def test_a_zone_is_no_escape() -> None:
    """fe80::1%eth0 and fe80::1%eth1 are one block."""
    assert address_block("fe80::1%eth0") == address_block("fe80::2%eth1") == "fe80::/64"


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4:80", "::g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A key of unchecked text would let the caller choose its own."""
    with pytest.raises(InvalidInput):
        address_block(text)


def test_kinds_of_identity_never_share_a_key() -> None:
    """I3: a user named like an address, or like an API key's digest, is still a user."""
    by_address = check_for(rule(CountedBy.ADDRESS), Caller("192.0.2.7"), "find")
    by_user = check_for(rule(CountedBy.USER), Caller("192.0.2.9", user="192.0.2.7"), "find")
    sly = check_for(rule(CountedBy.USER), Caller("192.0.2.9", user="ip:192.0.2.7"), "find")
    assert len({by_address.key, by_user.key, sly.key}) == 3


def test_an_api_key_is_not_in_its_rate_key() -> None:
    """I4, and two API keys stay two callers."""
    one = check_for(rule(CountedBy.API_KEY), Caller("192.0.2.7", api_key="sk-one"), "find")
    two = check_for(rule(CountedBy.API_KEY), Caller("192.0.2.7", api_key="sk-two"), "find")
    assert "sk-one" not in one.key
    assert one.key != two.key


def test_a_caller_without_the_identity_is_counted_by_address_and_by_default() -> None:
    """Leaving the token out is no way around the limit, and claims no plan."""
    check = check_for(rule(CountedBy.USER), Caller("192.0.2.7", plan="paid"), "find")
    assert check.key == check_for(rule(CountedBy.ADDRESS), Caller("192.0.2.7"), "find").key
    assert check.policy == FREE


def test_plan_and_route_choose_policy_and_cost() -> None:
    """An unknown plan is the default; an unlisted route costs 1."""
    paid = check_for(rule(CountedBy.USER), Caller("192.0.2.7", "u", plan="paid"), "export")
    assert (paid.policy, paid.cost) == (PAID, 4.0)
    odd = check_for(rule(CountedBy.USER), Caller("192.0.2.7", "u", plan="gold"), "find")
    assert (odd.policy, odd.cost) == (FREE, 1.0)


def test_a_route_dearer_than_a_plan_is_a_mistake_of_the_rule() -> None:
    """It could never be admitted; nobody should learn that from the first request."""
    with pytest.raises(InvalidInput):
        Rule("r", CountedBy.USER, FREE, {}, {"export": 6.0})
    with pytest.raises(InvalidInput):
        Rule("a:b", CountedBy.USER, FREE, {}, {})
