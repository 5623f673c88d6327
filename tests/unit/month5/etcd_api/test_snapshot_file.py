"""A saved snapshot: what etcdctl looks for, and that damage is noticed."""

from __future__ import annotations

import hashlib

import pytest

from month5_kvstore.etcd_api import unsealed
from month5_kvstore.etcd_api.snapshot_file import digest_of, sealed
from month5_kvstore.store import Compact, Delete, Envelope, Interval, Put, Store, freeze, restore
from scalelab.errors import CorruptData


def store_of(*values: bytes) -> Store:
    store = Store()
    for value in values:
        store.execute(Envelope(0, Put(b"k", value)))
    return store


@pytest.mark.parametrize("size", [0, 1, 495, 496, 497, 5000])
def test_it_is_whole_blocks_and_a_checksum_and_gives_back_what_went_in(size: int) -> None:
    file = sealed(b"x" * size)
    assert len(file) % 512 == 32
    assert hashlib.sha256(file[:-32]).digest() == file[-32:]
    assert unsealed(file) == b"x" * size


@pytest.mark.parametrize("place", [0, 4, 9, 20, -33, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    file = bytearray(sealed(b"x" * 700))
    file[place] ^= 1
    with pytest.raises(CorruptData):
        unsealed(bytes(file))


def test_a_file_of_another_kind_is_refused() -> None:
    body = b"bolt" + bytes(508)
    for file in (b"", b"short", body + hashlib.sha256(body).digest()):
        with pytest.raises(CorruptData):
            unsealed(file)


def test_the_hash_of_a_revision_is_that_of_its_keys_whatever_came_later() -> None:
    store = store_of(b"1", b"2")
    before = digest_of(freeze(store), 2)
    store.execute(Envelope(0, Put(b"other", b"")))
    store.execute(Envelope(0, Delete(Interval(b"k"))))
    assert digest_of(freeze(store), 2) == before
    assert digest_of(freeze(store), 3) != before


def test_the_hash_is_the_same_after_a_snapshot_and_a_compaction() -> None:
    store = store_of(b"1", b"2", b"3")
    before = digest_of(freeze(store), 4)
    again = restore(freeze(store).encode())
    again.execute(Envelope(0, Compact(3)))
    assert digest_of(freeze(again), 4) == before
