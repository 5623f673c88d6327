"""The B+ tree over a page file: find, put, remove, scan in order.

One path from the root to a leaf is read and, at most, written again, with one neighbour a level:
`height` pages for a lookup, however many entries there are. Changes wait in the page file until
`commit`; an error in the middle of one undoes all that was not committed.

Invariants, checked by `tree_check` after each step in tests
    T1  All leaves stand at one depth, the height.
    T2  Every node but the root is at least half full, and none is over its capacity.
    T3  Keys ascend within and across the leaves, along the links too, and every key stands
        between the keys of its ancestors.
    T4  Every page is the header, in the tree, or free; none is two of them.

Absent on purpose: several writers (latches), keys of other kinds than signed 64-bit integers,
duplicates. PostgreSQL differs: it never joins half-empty pages, only deletes empty ones, and it
cuts the rightmost page at nine tenths, because keys usually ascend.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

from month2_databases.indexes.node import (
    NO_PAGE,
    Branch,
    Leaf,
    Node,
    cut_branch,
    cut_leaf,
    mend,
)
from month2_databases.indexes.page_file import PageFile
from scalelab.errors import CorruptData, InvalidInput

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
Path = list[tuple[int, Branch, int]]
"""From the root down: page, branch, and which child was taken."""


class BPlusTree:
    """An ordered map from 64-bit integers to 64-bit integers (a row's address, say)."""

    def __init__(self, pages: PageFile) -> None:
        self.pages = pages

    def __len__(self) -> int:
        return self.pages.header.entries

    @property
    def height(self) -> int:
        """Levels; a lookup reads so many pages."""
        return self.pages.header.height

    def get(self, key: int) -> int | None:
        """The value of a key, or None."""
        return self._descend(key)[1].find(key)

    def put(self, key: int, value: int) -> bool:
        """Set a key's value; whether the key is new. Raises InvalidInput beyond 64 bits."""
        _judge(key, "key")
        _judge(value, "value")
        with self._whole():
            path, leaf, page = self._descend(key)
            leaf, is_new = leaf.put(key, value)
            self._grown(path, page, leaf)
            if is_new:
                self._count(1)
        return is_new

    def remove(self, key: int) -> bool:
        """Remove a key; whether it was there."""
        with self._whole():
            path, leaf, page = self._descend(key)
            less = leaf.without(key)
            if less is None:
                return False
            self._shrunk(path, page, less)
            self._count(-1)
        return True

    def scan(self, low: int = _LOWEST, high: int = _HIGHEST) -> Iterator[tuple[int, int]]:
        """Entries with low <= key <= high, in order. The tree must not change meanwhile.

        Raises CorruptData where the chain of leaves does not ascend: a link that leads back, to
        the same page or to an empty one. So a scan ends, whatever the links say.
        """
        leaf, page = self._descend(low)[1:]
        while True:
            for key, value in zip(leaf.keys, leaf.values, strict=True):
                if key > high:
                    return
                if key >= low:
                    yield key, value
            if leaf.next_page == NO_PAGE:
                return
            leaf, page = self._next_leaf(leaf, page), leaf.next_page

    def commit(self) -> int:
        """Make all changes durable; how many pages were written."""
        return self.pages.commit()

    def _descend(self, key: int) -> tuple[Path, Leaf, int]:
        path: Path = []
        page = self.pages.header.root
        for _ in range(self.height - 1):
            node = self.pages.read(page)
            if isinstance(node, Leaf):
                raise CorruptData(f"page {page} is a leaf above the last level", code="bad_page")
            slot = node.slot(key)
            path.append((page, node, slot))
            page = node.children[slot]
        return path, _as_leaf(self.pages.read(page), page), page

    def _next_leaf(self, leaf: Leaf, page: int) -> Leaf:
        following = _as_leaf(self.pages.read(leaf.next_page), leaf.next_page)
        if not leaf.keys or not following.keys or following.keys[0] <= leaf.keys[-1]:
            what = f"keys do not ascend from page {page} to page {leaf.next_page}"
            raise CorruptData(what, code="bad_page")
        return following

    def _grown(self, path: Path, page: int, node: Node) -> None:
        """Write a node that may be over its capacity; cut it and its ancestors as needed."""
        while len(node) > self._capacity(node):
            right_page = self.pages.allocate()
            left, key, right = (
                cut_leaf(node, right_page) if isinstance(node, Leaf) else cut_branch(node)
            )
            self.pages.write(page, left)
            self.pages.write(right_page, right)
            if not path:
                self._new_root(Branch((key,), (page, right_page)))
                return
            page, parent, slot = path.pop()
            node = parent.with_split(slot, key, right_page)
        self.pages.write(page, node)

    def _shrunk(self, path: Path, page: int, node: Node) -> None:
        """Write a node that may be below half; mend it and its ancestors as needed."""
        while path and len(node) < self._capacity(node) // 2:
            parent_page, parent, slot = path.pop()
            at = slot - 1 if slot else 0  # the pair: with the left neighbour if there is one
            left_page, right_page = parent.children[at], parent.children[at + 1]
            left = node if left_page == page else self.pages.read(left_page)
            right = node if right_page == page else self.pages.read(right_page)
            mended = self._mend(left, parent.keys[at], right)
            if isinstance(mended, tuple):
                left, key, right = mended
                self.pages.write(left_page, left)
                self.pages.write(right_page, right)
                page, node = parent_page, parent.with_key(at, key)
            else:
                self.pages.write(left_page, mended)
                self.pages.release(right_page)
                page, node = parent_page, parent.with_join(at)
        if not path and isinstance(node, Branch) and not node.keys:
            self._drop_root(page, node.children[0])
        else:
            self.pages.write(page, node)

    def _mend(self, left: Node, between: int, right: Node) -> Node | tuple[Node, int, Node]:
        if isinstance(left, Leaf) and isinstance(right, Leaf):
            return mend(left, between, right, self.pages.capacity.leaf)
        if isinstance(left, Branch) and isinstance(right, Branch):
            return mend(left, between, right, self.pages.capacity.branch)
        raise CorruptData("a leaf and a branch are neighbours", code="bad_page")

    def _capacity(self, node: Node) -> int:
        capacity = self.pages.capacity
        return capacity.leaf if isinstance(node, Leaf) else capacity.branch

    def _new_root(self, root: Branch) -> None:
        page = self.pages.allocate()
        self.pages.write(page, root)
        header = self.pages.header
        self.pages.header = replace(header, root=page, height=header.height + 1)

    def _drop_root(self, page: int, only_child: int) -> None:
        self.pages.release(page)
        header = self.pages.header
        self.pages.header = replace(header, root=only_child, height=header.height - 1)

    def _count(self, change: int) -> None:
        header = self.pages.header
        self.pages.header = replace(header, entries=header.entries + change)

    @contextmanager
    def _whole(self) -> Generator[None]:
        """A change that fails in the middle leaves what the last commit left."""
        try:
            yield
        except BaseException:
            self.pages.forget()
            raise


def _as_leaf(node: Node, page: int) -> Leaf:
    if isinstance(node, Branch):
        raise CorruptData(f"page {page} is a branch on the last level", code="bad_page")
    return node


def _judge(number: int, field: str) -> None:
    if not _LOWEST <= number <= _HIGHEST:
        raise InvalidInput(f"the {field} {number} does not fit into 64 bits", field=field)
