"""Where a caller sits, for the throttle: the peer, or what a trusted proxy says of it. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from ipaddress import IPv6Address, ip_address, ip_network


def client_address(peer: str | None, forwarded_for: str | None, trusted: AbstractSet[str]) -> str:
    """The address to count failures for.

    Only a trusted peer is believed, and only the entries added by trusted proxies: the last
    one that is not itself a trusted proxy. IPv6 callers count by their /64, because one
    household owns all of it. "unknown" if nothing is readable.
    """
    if peer is None or peer not in trusted or not forwarded_for:
        return _network_of(peer or "")
    for entry in reversed(forwarded_for.split(",")):
        address = entry.strip()
        if address not in trusted:
            return _network_of(address)
    return _network_of(peer)


def _network_of(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed.packed[:8] + bytes(8), 64)))
    return str(parsed)
