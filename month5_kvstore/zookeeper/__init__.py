"""ZooKeeper's sessions as coroutines, for the rooms that stand on them. Needs the package kazoo."""

from month5_kvstore.zookeeper.session import Node, SessionLost, ZooKeeperSession, open_session

__all__ = ["Node", "SessionLost", "ZooKeeperSession", "open_session"]
