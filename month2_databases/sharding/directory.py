"""Directory: a table of exceptions over another placement.

A tenant as large as all others together gets a shard of its own, or one with a law about where its
data lies stays in its country: named one by one, all other keys follow the default. The table is
held in memory whole; it is meant for tens or thousands of names, not for every key.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from month2_databases.sharding.placement import Placement
from scalelab.errors import NotFound


@dataclass(frozen=True, slots=True)
class Directory:
    """pinned: keys with a shard of their own choice. default: the placement of all others.

    version counts the changes of the table and of the default together.
    """

    default: Placement
    pinned: Mapping[object, str] = field(default_factory=lambda: MappingProxyType({}))
    changes: int = 0

    @property
    def version(self) -> int:
        return self.default.version + self.changes

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.default.shards, *self.pinned.values())))

    def shard_of(self, key: object) -> str:
        usual = self.default.shard_of(key)  # first: it refuses what is no key
        return self.pinned.get(key, usual)

    def pin(self, key: Hashable, to: str) -> Directory:
        """The next version, with `key` on shard `to`. Its rows must be moved by the caller."""
        self.default.shard_of(key)
        pinned = MappingProxyType({**self.pinned, key: to})
        return Directory(self.default, pinned, self.changes + 1)

    def unpin(self, key: Hashable) -> Directory:
        """The next version, with `key` where the default says. Raises NotFound if not pinned."""
        if key not in self.pinned:
            raise NotFound(f"{key!r} is not in the directory", code="key_not_pinned")
        pinned = MappingProxyType({k: v for k, v in self.pinned.items() if k != key})
        return Directory(self.default, pinned, self.changes + 1)
