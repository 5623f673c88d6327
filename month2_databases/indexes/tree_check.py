"""What must be true of a tree, found out by reading all of it; and what it looks like, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from month2_databases.indexes.node import NO_PAGE, Branch, Leaf, Node
from month2_databases.indexes.page_file import PageFile
from month2_databases.indexes.tree import BPlusTree

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """levels: nodes a level, from the root. fill: entries held / entries that fit on the leaves.

    fan_out: children a branch, on average; 0.0 where there is none.
    """

    levels: tuple[int, ...]
    entries: int
    fill: float
    fan_out: float


@dataclass(frozen=True, slots=True)
class _Place:
    """A node with its level (0 is the root) and the keys that its ancestors allow."""

    page: int
    node: Node
    level: int
    low: int | None
    high: int | None


def violations(tree: BPlusTree) -> list[str]:
    """Sentences about T1 to T4 that do not hold; none for a sound tree. Reads every page."""
    pages = tree.pages
    places = list(_places(pages))
    found = [sentence for place in places for sentence in _of_node(place, tree)]
    leaves = [place for place in places if isinstance(place.node, Leaf)]
    nexts = [place.page for place in leaves[1:]] + [NO_PAGE]
    for place, following in zip(leaves, nexts, strict=True):
        if isinstance(place.node, Leaf) and place.node.next_page != following:
            found.append(f"T3: page {place.page} links to {place.node.next_page}, not {following}")
    entries = sum(len(place.node) for place in leaves)
    if entries != len(tree):
        found.append(f"the header counts {len(tree)} entries, the leaves hold {entries}")
    uses = Counter([0, *(place.page for place in places), *pages.free_pages()])
    odd = [page for page in range(pages.header.pages) if uses[page] != 1]
    if odd or len(uses) != pages.header.pages:
        found.append(f"T4: not used once: pages {odd}; beyond the end: {set(uses)}")
    return found


def shape(tree: BPlusTree) -> Shape:
    """Counts of the whole tree. Reads every page."""
    places = list(_places(tree.pages))
    levels = Counter(place.level for place in places)
    leaves = [place for place in places if isinstance(place.node, Leaf)]
    branches = len(places) - len(leaves)
    return Shape(
        levels=tuple(levels[level] for level in sorted(levels)),
        entries=len(tree),
        fill=len(tree) / (len(leaves) * tree.pages.capacity.leaf),
        fan_out=(len(places) - 1) / branches if branches else 0.0,
    )


def as_text(tree: BPlusTree) -> str:
    """One line a node, children indented below their parent, long nodes cut in the middle."""
    lines: list[str] = []
    for place in _places(tree.pages):
        node = place.node
        link = f" → {node.next_page}" if isinstance(node, Leaf) and node.next_page else ""
        kind = "leaf" if isinstance(node, Leaf) else "branch"
        lines.append(f"{'  ' * place.level}{kind} {place.page} [{_cut(node.keys)}]{link}")
    return "\n".join(lines)


def _cut(keys: tuple[int, ...]) -> str:
    if len(keys) <= 2 * _SHOWN:
        return " ".join(map(str, keys))
    first, last = keys[:_SHOWN], keys[-_SHOWN:]
    return f"{' '.join(map(str, first))} … {' '.join(map(str, last))} ({len(keys)} keys)"


def _places(pages: PageFile) -> Iterator[_Place]:
    """Every node, a parent before its children, children from left to right."""
    ahead: list[tuple[int, int, int | None, int | None]] = [(pages.header.root, 0, None, None)]
    while ahead:
        page, level, low, high = ahead.pop()
        node = pages.read(page)
        yield _Place(page, node, level, low, high)
        if isinstance(node, Branch):
            bounds = [low, *node.keys, high]
            below = [
                (child, level + 1, bounds[at], bounds[at + 1])
                for at, child in enumerate(node.children)
            ]
            ahead += reversed(below)


def _of_node(place: _Place, tree: BPlusTree) -> Iterator[str]:
    node, where = place.node, f"page {place.page}"
    is_leaf = isinstance(node, Leaf)
    capacity = tree.pages.capacity.leaf if is_leaf else tree.pages.capacity.branch
    if is_leaf != (place.level == tree.height - 1):
        yield f"T1: {where} is on level {place.level} of {tree.height}"
    least = capacity // 2 if place.level else 0
    if not least <= len(node) <= capacity:
        yield f"T2: {where} holds {len(node)} keys, not {least} to {capacity}"
    if any(a >= b for a, b in zip(node.keys, node.keys[1:], strict=False)):
        yield f"T3: {where} is not in order"
    for key in (*node.keys[:1], *node.keys[-1:]):
        if (place.low is not None and key < place.low) or (
            place.high is not None and key >= place.high
        ):
            yield f"T3: {where} holds {key}, outside {place.low} to {place.high}"
