"""Build a tree from sorted entries, from the bottom up: each page is written once, and full.

Putting n sorted keys one after the other cuts every page but the last when it is full, and no key
ever comes to the left half again: the pages stay half full and each is written many times. When
the entries are known, they are laid side by side instead, `fill` of a page each, and the levels
above are the first keys of the level below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from month2_databases.indexes.node import Branch, Leaf
from month2_databases.indexes.page_file import PageFile
from month2_databases.indexes.tree import BPlusTree
from scalelab.errors import Conflict, InvalidInput


def bulk_load(pages: PageFile, entries: Iterable[tuple[int, int]], *, fill: float = 1.0) -> None:
    """Fill an empty tree and commit. entries: keys strictly ascending. fill: 0.5..1.0 of a page.

    Raises Conflict if the tree is not empty, InvalidInput for keys that do not ascend; the file
    is then as before.
    """
    if len(BPlusTree(pages)):
        raise Conflict("only an empty tree is loaded in bulk", code="tree_not_empty")
    if not 0.5 <= fill <= 1.0:
        raise InvalidInput(f"a fill of {fill} is not 0.5 to 1.0", field="fill")
    listed = list(entries)
    for (before, _), (key, _) in pairwise(listed):
        if before >= key:
            raise InvalidInput(f"key {key} comes after {before}", field="entries")
    try:
        _build(pages, listed, fill)
    except BaseException:
        pages.forget()
        raise
    pages.commit()


def groups(count: int, most: int, least: int) -> list[int]:
    """Sizes of consecutive groups of `count` things: `most` each, the last two evened out.

    Every size is `least`..`most`, unless there is one group only; needs most >= 2 * least - 1.
    """
    sizes = [most] * (count // most)
    if rest := count % most:
        sizes.append(rest)
    if len(sizes) > 1 and sizes[-1] < least:
        both = sizes[-2] + sizes[-1]
        sizes[-2:] = [both - least, least] if both - least >= least else [both]
    return sizes


def _build(pages: PageFile, entries: Sequence[tuple[int, int]], fill: float) -> None:
    if not entries:
        return
    pages.release(pages.header.root)
    level = _leaves(pages, entries, fill)
    height = 1
    while len(level) > 1:
        level = _branches(pages, level, fill)
        height += 1
    pages.header = replace(pages.header, root=level[0][1], height=height, entries=len(entries))


def _leaves(
    pages: PageFile, entries: Sequence[tuple[int, int]], fill: float
) -> list[tuple[int, int]]:
    """First key and page of each leaf."""
    capacity = pages.capacity.leaf
    sizes = groups(len(entries), max(1, int(capacity * fill)), capacity // 2)
    numbers = [pages.allocate() for _ in sizes]
    made: list[tuple[int, int]] = []
    start = 0
    for at, size in enumerate(sizes):
        keys, values = zip(*entries[start : start + size], strict=True)
        following = numbers[at + 1] if at + 1 < len(numbers) else 0
        pages.write(numbers[at], Leaf(keys, values, following))
        made.append((keys[0], numbers[at]))
        start += size
    return made


def _branches(
    pages: PageFile, below: Sequence[tuple[int, int]], fill: float
) -> list[tuple[int, int]]:
    """First key and page of each branch over the level below; a branch has keys + 1 children."""
    capacity = pages.capacity.branch
    made: list[tuple[int, int]] = []
    start = 0
    for size in groups(len(below), max(2, int(capacity * fill) + 1), capacity // 2 + 1):
        children = below[start : start + size]
        page = pages.allocate()
        keys = tuple(key for key, _ in children[1:])
        pages.write(page, Branch(keys, tuple(child for _, child in children)))
        made.append((children[0][0], page))
        start += size
    return made
