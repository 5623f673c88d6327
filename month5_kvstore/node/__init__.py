"""A process of the key-value store: sixteen Raft groups over one log, asked by HTTP."""

from month5_kvstore.node.errors import CrossGroup, WrongGroup
from month5_kvstore.node.group_driver import GroupDriver
from month5_kvstore.node.node import Node, NodeConfig, Tag
from month5_kvstore.node.placement import GROUPS, group_of, group_of_all, groups_of, tag_of

__all__ = [
    "GROUPS",
    "CrossGroup",
    "GroupDriver",
    "Node",
    "NodeConfig",
    "Tag",
    "WrongGroup",
    "group_of",
    "group_of_all",
    "groups_of",
    "tag_of",
]
