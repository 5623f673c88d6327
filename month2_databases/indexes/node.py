"""Nodes of a B+ tree: what one page holds, and how pages are split, evened out and joined. Pure.

Theory of operation
    All entries stand in the leaves, in order, and each leaf names its right neighbour. A branch
    with keys k0 < k1 < ... has one child more than keys: child i holds what is >= k(i-1) and
    below ki. A node that grew over its capacity is cut in two, and the first key of the right
    half goes up. A node that shrank below half takes from a neighbour, or both become one and
    the key between them comes down. Only a split of the root makes the tree higher, so all
    leaves stay at one depth.

Invariants (tests cite them)
    N1  Cutting loses nothing: left and right together are the node, in order.
    N2  Both halves of a cut hold at least half of the capacity (rounded down).
    N3  Mending gives one node within its capacity, or two that both hold at least half.

Nodes are values: an operation returns a new one. Cost: O(capacity) for each.
Sources: Bayer and McCreight 1972; Comer 1979, "The ubiquitous B-tree".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TypeVar

NO_PAGE = 0
"""Page 0 is the file's own page, so no neighbour and no child has this number."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """Keys in ascending order, a value for each, and the page of the next leaf or NO_PAGE."""

    keys: tuple[int, ...]
    values: tuple[int, ...]
    next_page: int = NO_PAGE

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, key: int) -> int | None:
        """The value of a key, or None. O(log n)."""
        at = bisect_left(self.keys, key)
        return self.values[at] if at < len(self.keys) and self.keys[at] == key else None

    def put(self, key: int, value: int) -> tuple[Leaf, bool]:
        """The leaf with this entry, and whether the key is new."""
        at = bisect_left(self.keys, key)
        old = int(at < len(self.keys) and self.keys[at] == key)
        keys = (*self.keys[:at], key, *self.keys[at + old :])
        values = (*self.values[:at], value, *self.values[at + old :])
        return Leaf(keys, values, self.next_page), not old

    def without(self, key: int) -> Leaf | None:
        """The leaf without this key; None if it has none."""
        at = bisect_left(self.keys, key)
        if at == len(self.keys) or self.keys[at] != key:
            return None
        keys = self.keys[:at] + self.keys[at + 1 :]
        return Leaf(keys, self.values[:at] + self.values[at + 1 :], self.next_page)


@dataclass(frozen=True, slots=True)
class Branch:
    """Keys in ascending order and the pages of len(keys) + 1 children."""

    keys: tuple[int, ...]
    children: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def slot(self, key: int) -> int:
        """The index of the child that holds a key. O(log n)."""
        return bisect_right(self.keys, key)

    def with_split(self, at: int, key: int, right_page: int) -> Branch:
        """Child `at` was cut: its right half stands on right_page and begins with key."""
        return Branch(
            (*self.keys[:at], key, *self.keys[at:]),
            (*self.children[: at + 1], right_page, *self.children[at + 1 :]),
        )

    def with_join(self, at: int) -> Branch:
        """Children `at` and `at + 1` became one, on the left one's page."""
        return Branch(
            self.keys[:at] + self.keys[at + 1 :],
            self.children[: at + 1] + self.children[at + 2 :],
        )

    def with_key(self, at: int, key: int) -> Branch:
        """Children `at` and `at + 1` were evened out: the right one now begins with key."""
        return replace(self, keys=(*self.keys[:at], key, *self.keys[at + 1 :]))


Node = Leaf | Branch
N = TypeVar("N", Leaf, Branch)


def cut_leaf(leaf: Leaf, right_page: int) -> tuple[Leaf, int, Leaf]:
    """Left half, the key that goes up, right half (N1, N2). The key stays in the right half."""
    middle = len(leaf) // 2
    right = Leaf(leaf.keys[middle:], leaf.values[middle:], leaf.next_page)
    return Leaf(leaf.keys[:middle], leaf.values[:middle], right_page), right.keys[0], right


def cut_branch(branch: Branch) -> tuple[Branch, int, Branch]:
    """Left half, the key that goes up, right half (N1, N2). The key stays in neither."""
    middle = len(branch) // 2
    return (
        Branch(branch.keys[:middle], branch.children[: middle + 1]),
        branch.keys[middle],
        Branch(branch.keys[middle + 1 :], branch.children[middle + 1 :]),
    )


def mend(left: N, between: int, right: N, capacity: int) -> N | tuple[N, int, N]:
    """Join two neighbours if they fit on one page, else even them out (N3).

    between: the parent's key that separates them.
    """
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        joined = Leaf(left.keys + right.keys, left.values + right.values, right.next_page)
        if len(joined) <= capacity:
            return joined
        middle = len(joined) // 2
        return (
            replace(left, keys=joined.keys[:middle], values=joined.values[:middle]),
            joined.keys[middle],
            Leaf(joined.keys[middle:], joined.values[middle:], right.next_page),
        )
    if isinstance(left, Branch) and isinstance(right, Branch):
        whole = Branch((*left.keys, between, *right.keys), left.children + right.children)
        return whole if len(whole) <= capacity else cut_branch(whole)
    raise TypeError("neighbours stand on one level")
