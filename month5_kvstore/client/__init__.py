"""A client that knows the groups: asks the leader first, and retries without doing twice."""

from month5_kvstore.client.client import Current, KvClient
from month5_kvstore.client.leased_keys import Change, LeasedKeys
from month5_kvstore.client.numbering import Numbering

__all__ = ["Change", "Current", "KvClient", "LeasedKeys", "Numbering"]
