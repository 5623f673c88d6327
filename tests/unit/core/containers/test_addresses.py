"""Address pools for container networks never overlap what the host routes."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from scalelab.errors import Conflict, CorruptData
from scalelab.lab.containers.addresses import free_pools, routes

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_the_kernel_s_table_is_read_without_its_default_route() -> None:
    """Hexadecimal in the machine's byte order; the default route covers everything, so it says
    nothing about what is taken."""
    assert routes(TABLE) == [IPv4Network("192.0.2.0/24")]


def test_a_line_that_is_no_route_is_refused() -> None:
    """Better no bed than one that cuts the host off."""
    with pytest.raises(CorruptData, match="eth9"):
        routes("header\neth9 broken\n")


@pytest.mark.parametrize(
    "taken",
    [
        [],
        ["192.0.2.0/24"],
        ["10.213.7.0/24"],
        ["10.208.0.0/12"],
        ["10.213.0.0/16", "10.214.0.0/16"],
    ],
)
def test_no_pool_overlaps_a_route(taken: list[str]) -> None:
    """Not with a smaller one, an equal one, or a larger one."""
    networks = [IPv4Network(one) for one in taken]
    for pool in free_pools(networks):
        assert pool.prefixlen == 16
        assert not any(pool.overlaps(network) for network in networks)


def test_no_room_is_said() -> None:
    """With all of 10/8 routed there is no pool."""
    with pytest.raises(Conflict):
        free_pools([IPv4Network("10.0.0.0/8")])
