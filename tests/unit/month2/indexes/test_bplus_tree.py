"""Claims about the B+ tree: against a dumb model, with its invariants after each step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from month2_databases.indexes import (
    BPlusTree,
    PageFile,
    as_text,
    bulk_load,
    height_for,
    levels_for,
    shape,
    violations,
)
from month2_databases.indexes.bulk_load import groups
from month2_databases.indexes.node import Branch, Leaf, cut_branch, cut_leaf, mend
from scalelab.errors import Conflict, CorruptData, InvalidInput

PAGE_SIZES = (64, 72, 96, 128)
keys = st.one_of(st.integers(0, 60), st.sampled_from([-(2**63), 2**63 - 1]))
steps = st.lists(st.tuples(st.sampled_from(["put", "remove", "remove"]), keys), max_size=80)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=40)
@given(page_size=st.sampled_from(PAGE_SIZES), first=st.integers(0, 40), steps=steps)
def test_the_tree_does_what_a_sorted_dict_does(
    page_size: int, first: int, steps: list[tuple[str, int]]
) -> None:
    """Any sequence of puts and removals; T1 to T4 after each."""
    with tempfile.TemporaryDirectory() as name:
        path, model = Path(name) / "t", {2 * key: key for key in range(first)}
        with PageFile(path, page_size=page_size, kept_pages=3, sync=False) as pages:
            tree = BPlusTree(pages)
            bulk_load(pages, sorted(model.items()))
            for number, (what, key) in enumerate(steps):
                if what == "put":
                    assert tree.put(key, number) == (key not in model)
                    model[key] = number
                else:
                    assert tree.remove(key) == (model.pop(key, None) is not None)
                assert violations(tree) == []
            assert list(tree.scan()) == sorted(model.items())
            assert all(tree.get(key) == model.get(key) for _, key in steps)
            tree.commit()
        with PageFile(path, sync=False) as pages:
            assert list(BPlusTree(pages).scan()) == sorted(model.items())
            assert violations(BPlusTree(pages)) == []


@settings(max_examples=40)
@given(held=st.sets(st.integers(0, 200)), low=st.integers(-5, 205), high=st.integers(-5, 205))
def test_a_range_scan_gives_exactly_its_range_in_order(held: set[int], low: int, high: int) -> None:
    """Bounds included, also where they are no keys."""
    with (
        tempfile.TemporaryDirectory() as name,
        PageFile(Path(name) / "t", page_size=64, sync=False) as pages,
    ):
        bulk_load(pages, [(key, -key) for key in sorted(held)])
        found = list(BPlusTree(pages).scan(low, high))
    assert found == [(key, -key) for key in sorted(held) if low <= key <= high]


@settings(max_examples=40)
@given(count=st.integers(0, 400), page_size=st.sampled_from(PAGE_SIZES), fill=st.floats(0.5, 1.0))
def test_a_bulk_load_is_a_sound_tree_of_the_height_that_theory_says(
    count: int, page_size: int, fill: float
) -> None:
    """T1 to T4 for any number of entries; packed full it is as low as it can be."""
    entries = [(key, key * key) for key in range(count)]
    with (
        tempfile.TemporaryDirectory() as name,
        PageFile(Path(name) / "t", page_size=page_size, sync=False) as pages,
    ):
        bulk_load(pages, entries, fill=fill)
        tree = BPlusTree(pages)
        assert violations(tree) == []
        assert list(tree.scan()) == entries
        at_best = levels_for(count, leaf=pages.capacity.leaf, children=pages.capacity.branch + 1)
        if fill == 1.0:
            assert shape(tree).levels == at_best
        assert tree.height >= len(at_best)


@given(count=st.integers(0, 500), capacity=st.integers(3, 20))
def test_groups_are_neither_too_small_nor_too_large(count: int, capacity: int) -> None:
    """The last two are evened out."""
    sizes = groups(count, capacity, capacity // 2)
    assert sum(sizes) == count
    assert all(size <= capacity for size in sizes)
    assert len(sizes) < 2 or all(size >= capacity // 2 for size in sizes)


@given(capacity=st.integers(3, 30))
def test_a_cut_loses_nothing_and_leaves_both_halves_half_full(capacity: int) -> None:
    """N1, N2, for leaves and branches one over their capacity."""
    numbers = tuple(range(capacity + 1))
    left, key, right = cut_leaf(Leaf(numbers, numbers, 9), 7)
    assert (left.keys + right.keys, left.next_page, right.next_page) == (numbers, 7, 9)
    assert key == right.keys[0]
    assert min(len(left), len(right)) >= capacity // 2
    low, key, high = cut_branch(Branch(numbers, (*numbers, 99)))
    assert (*low.keys, key, *high.keys) == numbers
    assert low.children + high.children == (*numbers, 99)
    assert min(len(low), len(high)) >= capacity // 2


@given(capacity=st.integers(3, 30), data=st.data())
def test_mending_gives_one_node_that_fits_or_two_half_full_ones(
    capacity: int, data: st.DataObject
) -> None:
    """N3, for one node just below half and a neighbour of any allowed size."""
    few = capacity // 2 - 1
    other = data.draw(st.integers(capacity // 2, capacity))
    whole = tuple(range(few + other))
    mended = mend(
        Leaf(whole[:few], whole[:few], 5), few, Leaf(whole[few:], whole[few:], 6), capacity
    )
    if isinstance(mended, Leaf):
        assert mended == Leaf(whole, whole, 6)
        assert len(mended) <= capacity
        return
    left, between, right = mended
    assert left.keys + right.keys == whole
    assert between == right.keys[0]
    assert min(len(left), len(right)) >= capacity // 2


def test_ascending_keys_leave_pages_half_full_and_a_bulk_load_full_ones(folder: Path) -> None:
    """Nearly twice as many leaves: 7 or 8 keys on 15 places."""
    found: list[int] = []
    for name in ("one by one", "bulk"):
        with PageFile(folder / name, page_size=256, sync=False) as pages:
            tree = BPlusTree(pages)
            if name == "bulk":
                bulk_load(pages, ((key, key) for key in range(900)))
            else:
                for key in range(900):
                    tree.put(key, key)
            found.append(shape(tree).levels[-1])
    assert found[1] == 900 // 15
    assert 1.85 * found[1] <= found[0] <= 2.15 * found[1]


def test_a_lookup_reads_one_page_a_level(folder: Path) -> None:
    """With nothing kept in memory, for keys that are there and keys that are not."""
    with PageFile(folder / "t", page_size=128, kept_pages=0, sync=False) as pages:
        bulk_load(pages, ((key, key) for key in range(0, 4000, 2)))
        tree = BPlusTree(pages)
        assert tree.height == height_for(2000, leaf=7, children=10) == 4
        for key in (0, 1, 1999, 3998, 5000):
            before = pages.pages_read
            assert tree.get(key) == (None if key % 2 or key > 3998 else key)
            assert pages.pages_read - before == tree.height


def test_removing_all_gives_all_pages_back_and_they_are_used_again(folder: Path) -> None:
    """The file does not grow when it is filled a second time."""
    numbers = list(range(500))
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        tree = BPlusTree(pages)
        sizes: list[int] = []
        for seed in (1, 2):
            Random(seed).shuffle(numbers)
            for key in numbers:
                tree.put(key, 0)
            sizes.append(pages.header.pages)
            for key in reversed(numbers):
                tree.remove(key)
            assert (len(tree), tree.height) == (0, 1)
            assert violations(tree) == []
            assert len(pages.free_pages()) == pages.header.pages - 2
        assert sizes[1] <= sizes[0] * 1.1


@pytest.mark.parametrize("page_size", [96, 128])
def test_every_page_stays_half_full_down_to_the_last_key(folder: Path, page_size: int) -> None:
    """T1 to T4 after each of 150 removals in random order, from packed pages."""
    numbers = list(range(150))
    with PageFile(folder / "t", page_size=page_size, sync=False) as pages:
        bulk_load(pages, [(key, key) for key in numbers])
        tree = BPlusTree(pages)
        Random(3).shuffle(numbers)
        for key in numbers:
            assert tree.remove(key)
            assert violations(tree) == []


def test_the_text_shows_levels_links_and_the_middle_cut_out(folder: Path) -> None:
    """What a person reads."""
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        bulk_load(pages, ((key, 0) for key in range(6)))
        assert as_text(BPlusTree(pages)) == "branch 3 [3]\n  leaf 1 [0 1 2] → 2\n  leaf 2 [3 4 5]"


def test_what_a_bulk_load_refuses_changes_nothing(folder: Path) -> None:
    """Keys out of order, a tree with entries, a fill that is none."""
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        tree = BPlusTree(pages)
        for entries in ([(2, 0), (1, 0)], [(1, 0), (1, 0)]):
            with pytest.raises(InvalidInput):
                bulk_load(pages, entries)
        with pytest.raises(InvalidInput):
            bulk_load(pages, [(1, 0)], fill=0.1)
        tree.put(1, 1)
        with pytest.raises(Conflict):
            bulk_load(pages, [(2, 2)])
        assert list(tree.scan()) == [(1, 1)]


@pytest.mark.parametrize(("key", "value"), [(2**63, 0), (0, -(2**63) - 1)])
def test_numbers_beyond_64_bits_are_refused(folder: Path, key: int, value: int) -> None:
    """And change nothing."""
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        with pytest.raises(InvalidInput):
            BPlusTree(pages).put(key, value)
        assert len(BPlusTree(pages)) == 0


@pytest.mark.parametrize(("page", "links_to"), [(1, 1), (2, 1), (2, 2)])
def test_a_scan_refuses_a_chain_whose_keys_do_not_ascend(
    folder: Path, page: int, links_to: int
) -> None:
    """A leaf that links to itself or back: a clear error, not the same entries for ever."""
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        bulk_load(pages, ((key, 0) for key in range(6)))
        leaf = pages.read(page)
        assert isinstance(leaf, Leaf)
        pages.write(page, replace(leaf, next_page=links_to))
        with pytest.raises(CorruptData, match=f"page {page} to page {links_to}") as refused:
            list(islice(BPlusTree(pages).scan(), 50))
        assert refused.value.stable_code == "bad_page"


def test_a_scan_refuses_an_empty_leaf_in_the_chain(folder: Path) -> None:
    """Only the root of an empty tree holds nothing, and it links to nothing."""
    with PageFile(folder / "t", page_size=64, sync=False) as pages:
        pages.write(1, Leaf((), (), 1))
        with pytest.raises(CorruptData):
            list(islice(BPlusTree(pages).scan(), 50))
