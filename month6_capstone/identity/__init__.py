"""Identity: accounts, access tokens, service clients and the keys that verify them.

The process is `month6_capstone.identity.service`; what stands here prepares and fills it.
"""

from __future__ import annotations

from month6_capstone.identity.accounts import SeedUser, seed_users
from month6_capstone.identity.keys import add_key
from month6_capstone.identity.passwords import Costs, hash_password
from month6_capstone.identity.service_clients import ServiceClient, register_client, write_clients

__all__ = [
    "Costs",
    "SeedUser",
    "ServiceClient",
    "add_key",
    "hash_password",
    "register_client",
    "seed_users",
    "write_clients",
]
