"""Claims about instances, views and what registries keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.discovery import Instance, View
from month5_kvstore.discovery.instances import decode, encode
from scalelab.errors import CorruptData, InvalidInput

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ME = Instance("greeter", "a", "127.0.0.1", 80)


@given(service=LABELS, name=LABELS, port=st.integers(1, 65535), version=st.text(max_size=5))
def test_an_instance_comes_back_from_its_bytes(
    service: str, name: str, port: int, version: str
) -> None:
    made = Instance(service, name, "127.0.0.1", port, version)
    assert decode(encode(made)) == made


@pytest.mark.parametrize(
    "fields",
    [
        {"service": "a b"},
        {"id": ""},
        {"id": "-a"},
        {"host": ""},
        {"host": "a\nb"},
        {"port": 0},
        {"port": 65536},
    ],
)
def test_what_no_registry_could_hold_is_refused(fields: dict[str, object]) -> None:
    whole: dict[str, object] = {"service": "s", "id": "i", "host": "h", "port": 1}
    with pytest.raises(InvalidInput):
        Instance(**{**whole, **fields})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"service": "s"}', b"\xff", b"1"])
def test_bytes_that_are_no_instance_are_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptData):
        decode(value)


def test_a_view_changes_by_what_was_heard_and_never_by_a_failure() -> None:
    """V1, V2."""
    empty = View()
    assert empty.stale
    heard = empty.heard((ME,))
    assert (heard.instances, heard.stale, heard.changes) == ((ME,), False, 1)
    away = heard.away()
    assert (away.instances, away.stale, away.changes) == ((ME,), True, 1)
    assert away.heard(()) == View((), stale=False, changes=2)
