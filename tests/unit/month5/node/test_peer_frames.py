"""Claims about what nodes send each other."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.node.peer_frames import Ask, Frame, Frames, Hello, Routed, Told, encode
from month5_kvstore.raft import (
    AppendEntries,
    Configuration,
    Entry,
    EntryKind,
    InstallSnapshot,
    RequestVoteReply,
    Snapshot,
)
from month5_kvstore.store import Put, PutDone
from scalelab.errors import CorruptData

FRAMES: list[Frame] = [
    Hello("scalelab", 1, "0" * 32, 16),
    Routed(3, AppendEntries(1, 2, 7, 4, 6, (Entry(5, 7, EntryKind.COMMAND, b"data"),), 4)),
    Routed(15, InstallSnapshot(1, 2, 7, Snapshot(9, 7, Configuration((1, 2), (), (3,)), b"x"))),
    Routed(0, RequestVoteReply(2, 1, 7, True, pre=True)),
    Ask(1, 2, Put(b"k", b"v"), 5, 6, 7),
    Told(1, PutDone(8)),
]


@given(cuts=st.lists(st.integers(0, 600), max_size=8))
def test_frames_come_out_as_they_went_in_however_they_are_cut(cuts: list[int]) -> None:
    data = b"".join(map(encode, FRAMES))
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    reader = Frames()
    found = [frame for start, end in pairwise(places) for frame in reader.feed(data[start:end])]
    assert found == FRAMES


def test_an_entrys_kind_is_the_cores_own() -> None:
    """The core compares kinds by identity."""
    (frame,) = Frames().feed(encode(FRAMES[1]))
    assert isinstance(frame, Routed)
    assert isinstance(frame.message, AppendEntries)
    assert frame.message.entries[0].kind is EntryKind.COMMAND


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\x00", b"\x02\x00\x00\x00zz"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptData):
        list(Frames().feed(data))
