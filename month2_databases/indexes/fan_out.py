"""How high a B+ tree is, from how much fits on a page. Pure.

A branch with m keys has m + 1 children, so a tree of height h holds up to c * (m + 1)**(h - 1)
entries on leaves of c. With pages of 4 KiB here that is 255 * 340**(h - 1): two levels for 86,000,
three for 29 million. A half-full tree needs at most one level more.
"""

from __future__ import annotations

from scalelab.errors import InvalidInput


def height_for(entries: int, *, leaf: int, children: int) -> int:
    """Levels of a tree of `entries` with `leaf` of them a leaf and `children` a branch."""
    return len(levels_for(entries, leaf=leaf, children=children))


def levels_for(entries: int, *, leaf: int, children: int) -> tuple[int, ...]:
    """Nodes on each level of a packed tree, from the root."""
    if leaf < 1 or children < 2:
        raise InvalidInput("a leaf holds an entry and a branch two children", field="children")
    nodes = [max(1, -(-entries // leaf))]
    while nodes[0] > 1:
        nodes.insert(0, -(-nodes[0] // children))
    return tuple(nodes)
