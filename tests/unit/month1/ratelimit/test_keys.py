"""Whom a request is counted for."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import (
    Caller,
    CountedBy,
    LeasePolicy,
    LeaseRule,
    MemoryStore,
    Policy,
    Rule,
    address_block,
    check_for,
    lease_for,
)
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput

FREE, PAID = Policy(5, 0.001), Policy(50, 0.001)


def rule(by: CountedBy) -> Rule:
    return Rule("search", FREE, by, {"paid": PAID})


async def test_hopping_inside_a_64_escapes_nothing() -> None:
    """I1: a thousand addresses of one customer share five requests; a neighbour has its own."""
    store = MemoryStore(ManualClock())
    network = int(ipaddress.IPv6Address("2001:db8:7:1::"))
    admitted = 0
    for hop in range(1000):
        address = str(ipaddress.IPv6Address(network + hop * 0x1_0001_0001))
        check = check_for(rule(CountedBy.ADDRESS), Caller(address))
        admitted += (await store.check(check.key, check.policy, cost=check.cost)).admitted
    assert admitted == 5
    neighbour = check_for(rule(CountedBy.ADDRESS), Caller("2001:db8:7:2::1"))
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
    by_address = check_for(rule(CountedBy.ADDRESS), Caller("192.0.2.7"))
    by_user = check_for(rule(CountedBy.USER), Caller("192.0.2.9", user="192.0.2.7"))
    sly = check_for(rule(CountedBy.USER), Caller("192.0.2.9", user="ip:192.0.2.7"))
    assert len({by_address.key, by_user.key, sly.key}) == 3


def test_two_api_keys_at_one_address_are_two_callers() -> None:
    """The id, which is public, is all that a rate key holds of an API key (I4)."""
    one = check_for(rule(CountedBy.API_KEY), Caller("192.0.2.7", key_id="one111"))
    two = check_for(rule(CountedBy.API_KEY), Caller("192.0.2.7", key_id="two222"))
    assert (one.key, two.key) == ("search:key:one111", "search:key:two222")


def test_a_caller_is_counted_by_what_is_known_best() -> None:
    """The API key before the user, the user before the address."""
    by = rule(CountedBy.CALLER)
    both = Caller("192.0.2.7", user="ann", key_id="one111")
    assert check_for(by, both).key == "search:key:one111"
    assert check_for(by, Caller("192.0.2.7", user="ann")).key == "search:user:ann"
    assert check_for(by, Caller("192.0.2.7")).key == "search:ip:192.0.2.7"


def test_a_slot_is_counted_as_a_rate_is() -> None:
    """The same key and the same plan, for leases."""
    leases = LeaseRule("exports", LeasePolicy(1, 30), CountedBy.USER, {"paid": LeasePolicy(4, 30)})
    slot = lease_for(leases, Caller("192.0.2.7", user="ann", plan="paid"))
    assert (slot.key, slot.policy.slots) == ("exports:user:ann", 4)
    assert lease_for(leases, Caller("192.0.2.7", plan="paid")).policy.slots == 1


def test_a_caller_without_the_identity_is_counted_by_address_and_by_default() -> None:
    """Leaving the token out is no way around the limit, and claims no plan."""
    check = check_for(rule(CountedBy.USER), Caller("192.0.2.7", plan="paid"))
    assert check.key == check_for(rule(CountedBy.ADDRESS), Caller("192.0.2.7")).key
    assert check.policy == FREE


def test_plan_and_route_choose_policy_and_cost() -> None:
    """An unknown plan is the default; an unlisted route costs 1."""
    paid = check_for(rule(CountedBy.USER), Caller("192.0.2.7", "u", plan="paid"), 4.0)
    assert (paid.policy, paid.cost) == (PAID, 4.0)
    odd = check_for(rule(CountedBy.USER), Caller("192.0.2.7", "u", plan="gold"))
    assert (odd.policy, odd.cost) == (FREE, 1.0)


def test_a_route_dearer_than_a_plan_is_a_mistake_of_the_rule() -> None:
    """It could never be admitted; nobody should learn that from the first request."""
    with pytest.raises(InvalidInput):
        Rule("r", PAID, CountedBy.USER, {"free": FREE}).check_cost(6.0)
    with pytest.raises(InvalidInput):
        Rule("a:b", FREE)
