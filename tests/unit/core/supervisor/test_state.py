"""The published state: whole or absent, and never a password in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.lab.supervisor.process import without_password
from scalelab.lab.supervisor.state import ProcessView, StackState, decode, encode, publish, read

views = st.builds(
    ProcessView,
    name=st.text(),
    pid=st.none() | st.integers(1, 2**22),
    started_at_s=st.floats(0, 2e9),
    port=st.none() | st.integers(1, 65535),
    version=st.none() | st.text(),
    rss_bytes=st.none() | st.integers(0, 2**40),
    pss_bytes=st.none() | st.integers(0, 2**40),
    state=st.sampled_from(["running", "dead"]),
    log=st.text(),
)
states = st.builds(
    StackState,
    month=st.text(),
    phase=st.sampled_from(["starting", "ready", "failed", "stopping", "stopped"]),
    message=st.text(),
    pid=st.integers(1, 2**22),
    started_at_s=st.floats(0, 2e9),
    links=st.lists(st.tuples(st.text(), st.text())).map(tuple),
    processes=st.lists(views, max_size=3).map(tuple),
    error_code=st.none() | st.text(),
)


@given(states)
def test_a_state_reads_back(state: StackState) -> None:
    """What was published is what is read."""
    assert decode(encode(state)) == state


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"links": [1], "processes": []}'])
def test_foreign_text_is_no_state(tmp_path: Path, text: str) -> None:
    """Half a file, or somebody else's, reads as none."""
    path = tmp_path / "state.json"
    path.write_text(text)
    assert read(path) is None


def test_no_file_is_no_state(tmp_path: Path) -> None:
    """Before the first start there is nothing."""
    assert read(tmp_path / "state.json") is None


def test_publish_replaces_whole(tmp_path: Path) -> None:
    """A reader that opened the old file keeps reading the old state."""
    path = tmp_path / "state.json"
    old, new = (StackState("m", phase, "", 1, 0.0) for phase in ("starting", "ready"))
    publish(path, old)
    with path.open() as reader:
        publish(path, new)
        assert decode(reader.read()) == old
    assert read(path) == new
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@127.0.0.1:6379/0", "redis://@127.0.0.1:6379/0"),
        ("postgresql://shop:se:cret@127.0.0.1/orders", "postgresql://shop@127.0.0.1/orders"),
        ("http://127.0.0.1:8080/a:b@c", "http://127.0.0.1:8080/a:b@c"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_links_lose_their_passwords(url: str, shown: str) -> None:
    """A link is printed and kept in a file; its password is neither."""
    assert without_password(url) == shown
