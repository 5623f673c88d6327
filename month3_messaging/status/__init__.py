"""Order status as it happens: asked for, waited for, streamed or pushed; resumable and bounded."""

from month3_messaging.status.api import StatusApi, status_router
from month3_messaging.status.client_queue import ClientQueue, Update
from month3_messaging.status.followers import Followers
from month3_messaging.status.handshake import PATH, SUBPROTOCOL
from month3_messaging.status.hub import Hub, HubSettings, StatusHub, Watcher
from month3_messaging.status.liveness import Pace
from month3_messaging.status.long_poll import long_poll_router
from month3_messaging.status.redis_hub import RedisFeed, RedisHub
from month3_messaging.status.redis_relay import RelaySettings, StatusRelay
from month3_messaging.status.websocket import (
    SocketSettings,
    StatusSockets,
    serve_status_sockets,
)

__all__ = [
    "PATH",
    "SUBPROTOCOL",
    "ClientQueue",
    "Followers",
    "Hub",
    "HubSettings",
    "Pace",
    "RedisFeed",
    "RedisHub",
    "RelaySettings",
    "SocketSettings",
    "StatusApi",
    "StatusHub",
    "StatusRelay",
    "StatusSockets",
    "Update",
    "Watcher",
    "long_poll_router",
    "serve_status_sockets",
    "status_router",
]
