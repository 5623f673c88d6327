"""Order status as it happens: server-sent events that resume where a client left off."""

from month3_messaging.status.api import StatusApi, status_router
from month3_messaging.status.hub import HubSettings, StatusHub, Watcher

__all__ = ["HubSettings", "StatusApi", "StatusHub", "Watcher", "status_router"]
