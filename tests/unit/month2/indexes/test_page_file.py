"""Claims about the page file: torn pages are found, commits are whole, whatever was cut off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.indexes import BPlusTree, Capacity, PageFile, bulk_load, violations
from month2_databases.indexes.node import Branch, Leaf
from month2_databases.indexes.page_layout import FileHeader, FreePage, decode, encode
from scalelab.errors import Conflict, CorruptData, InvalidInput, Unavailable

PAGE = 128
big = st.integers(-(2**63), 2**63 - 1)


@given(entries=st.dictionaries(big, big, max_size=7), after=st.integers(0, 2**32 - 1))
def test_a_leaf_is_read_back_as_it_was_written(entries: dict[int, int], after: int) -> None:
    leaf = Leaf(tuple(sorted(entries)), tuple(entries[key] for key in sorted(entries)), after)
    assert decode(encode(leaf, 5, PAGE), 5) == leaf


def test_the_other_kinds_are_read_back_as_they_were_written() -> None:
    """A branch, a free page, the header; all fill their page exactly."""
    for page in (Branch((1, 2), (7, 8, 9)), FreePage(3), FileHeader(PAGE, 1, 2, 9, 0, 77)):
        data = encode(page, 4, PAGE)
        assert len(data) == PAGE
        assert decode(data, 4) == page


def test_the_documented_bytes_are_the_ones_on_the_page() -> None:
    """Another program could read the file by the layout alone."""
    data = encode(Leaf((258,), (-1,), 3), 2, 64)
    assert data[4:16].hex(" ") == "02 00 01 00 02 00 00 00 03 00 00 00"
    assert data[16:32].hex() == "0201000000000000" + "ff" * 8
    assert data[32:] == bytes(32)


@given(at=st.integers(0, PAGE * 8 - 1))
def test_one_turned_bit_anywhere_on_a_page_is_found(at: int) -> None:
    """Checksum included."""
    data = bytearray(encode(Leaf((1, 2), (3, 4), 0), 5, PAGE))
    data[at // 8] ^= 1 << at % 8
    with pytest.raises(CorruptData):
        decode(bytes(data), 5)


def test_a_page_written_in_part_is_torn(tmp_path: Path) -> None:
    """The first half is new, the second old: read as an error, never as a node."""
    path = filled(tmp_path)
    old = path.read_bytes()
    page = next(n for n in range(1, len(old) // PAGE) if isinstance(decode(_page(old, n), n), Leaf))
    new = encode(Leaf((1, 2, 3, 4, 5, 6, 7), (9,) * 7, 0), page, PAGE)
    torn = new[: PAGE // 2] + _page(old, page)[PAGE // 2 :]
    path.write_bytes(old[: page * PAGE] + torn + old[(page + 1) * PAGE :])
    with PageFile(path) as pages, pytest.raises(CorruptData) as caught:
        list(BPlusTree(pages).scan())
    assert caught.value.stable_code == "torn_page"


def test_a_page_in_a_wrong_place_is_found(tmp_path: Path) -> None:
    """Its checksum fits; its number does not."""
    path = filled(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: 2 * PAGE] + _page(data, 1) + data[3 * PAGE :])
    with PageFile(path) as pages, pytest.raises(CorruptData) as caught:
        list(BPlusTree(pages).scan())
    assert caught.value.stable_code == "misplaced_page"


def test_wherever_a_commit_is_cut_off_the_file_is_before_or_after_it(tmp_path: Path) -> None:
    """G1, at every byte of the journal and after every page of the file, torn ones included."""
    path = filled(tmp_path)
    before = path.read_bytes()
    with PageFile(path) as pages:
        old = list(BPlusTree(pages).scan())
    journal = tmp_path / "t.journal"
    with PageFile(path) as pages:
        tree = BPlusTree(pages)
        for key in range(1, 60, 2):
            tree.put(key, -key)
        new = list(tree.scan())
        pages._journal = tmp_path / "kept"  # it stays for the cuts below
        pages._journal.symlink_to(journal)
        tree.commit()
    after, whole = path.read_bytes(), journal.read_bytes()
    assert old != new
    for cut in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(before)
        journal.write_bytes(whole[:cut])
        assert _entries(path) == old
    for cut in range(0, len(after), 96):  # the pages so far, the last of them torn
        path.write_bytes(after[:cut] + before[cut:])
        journal.write_bytes(whole)
        assert _entries(path) == new
        assert not journal.exists()


def test_a_file_that_ends_before_its_last_page_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptData) as caught:
        PageFile(path)
    assert caught.value.stable_code == "file_cut_short"


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(CorruptData):
        PageFile(tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == content


def test_a_second_opening_is_refused_while_the_first_lasts(tmp_path: Path) -> None:
    """G3."""
    with PageFile(tmp_path / "t"), pytest.raises(Conflict):
        PageFile(tmp_path / "t")
    PageFile(tmp_path / "t").close()


def test_what_was_not_committed_is_gone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with PageFile(path) as pages:
        BPlusTree(pages).put(12345, 1)
    with PageFile(path) as pages:
        assert BPlusTree(pages).get(12345) is None


def test_a_change_that_meets_a_torn_page_undoes_what_is_not_committed(tmp_path: Path) -> None:
    """The tree in memory is the committed one again."""
    path = filled(tmp_path)
    with PageFile(path, kept_pages=0) as pages:
        tree = BPlusTree(pages)
        tree.put(1, 1)
        leaf = tree._descend(58)[2]
        os.pwrite(pages._file, b"\xff", leaf * PAGE + 50)
        with pytest.raises(CorruptData):
            tree.put(58, 1)
        assert tree.get(1) is None


def test_a_full_disk_before_the_journal_is_whole_loses_nothing(tmp_path: Path) -> None:
    """The refused commit can be tried again. /dev/full is a disk that is always full."""
    path = filled(tmp_path)
    with PageFile(path) as pages:
        tree = BPlusTree(pages)
        tree.put(1, 1)
        place = pages._journal
        place.symlink_to("/dev/full")
        with pytest.raises(Unavailable) as caught:
            tree.commit()
        assert caught.value.stable_code == "disk_failed"
        assert not place.is_symlink()
        assert tree.commit() > 0
    assert (1, 1) in _entries(path)


@pytest.mark.parametrize("size", [0, 56, 68, 65536])
def test_a_page_size_that_cannot_be_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidInput):
        PageFile(tmp_path / "t", page_size=size)
    assert not (tmp_path / "t").exists()


def test_the_capacity_is_what_fits_beside_the_header() -> None:
    assert Capacity.of(4096) == Capacity(leaf=255, branch=339)
    assert Capacity.of(64) == Capacity(leaf=3, branch=3)


def filled(folder: Path) -> Path:
    """Thirty even keys on pages of 128 bytes."""
    with PageFile(folder / "t", page_size=PAGE) as pages:
        bulk_load(pages, ((key, key) for key in range(0, 60, 2)))
    return folder / "t"


def _page(data: bytes, number: int) -> bytes:
    return data[number * PAGE : (number + 1) * PAGE]


def _entries(path: Path) -> list[tuple[int, int]]:
    with PageFile(path, sync=False) as pages:
        tree = BPlusTree(pages)
        assert violations(tree) == []
        return list(tree.scan())
