"""Who serves what, and where: registries, the owner's heartbeat, the caller's view, live settings.

One interface on Consul, on ZooKeeper and on this month's own store; `open_registry` picks by
address.
"""

from month5_kvstore.discovery.balanced import BalancedClient
from month5_kvstore.discovery.directory import Directory, View
from month5_kvstore.discovery.dns_lookup import lookup_srv
from month5_kvstore.discovery.dns_records import Endpoint
from month5_kvstore.discovery.instances import Instance
from month5_kvstore.discovery.live_setting import LiveSetting
from month5_kvstore.discovery.lookup_proxy import create_lookup_proxy
from month5_kvstore.discovery.opening import open_registry
from month5_kvstore.discovery.presence import PresenceEvent, present
from month5_kvstore.discovery.registry import Registration, RegistrationLost, Registry

__all__ = [
    "BalancedClient",
    "Directory",
    "Endpoint",
    "Instance",
    "LiveSetting",
    "PresenceEvent",
    "Registration",
    "RegistrationLost",
    "Registry",
    "View",
    "create_lookup_proxy",
    "lookup_srv",
    "open_registry",
    "present",
]
