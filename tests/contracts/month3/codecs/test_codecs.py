"""The promises of month3_messaging/codecs/codec.py, held by JSON, Protobuf and Avro (C1..C4)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from month3_messaging.codecs import Codec, InvalidUtf8, WrongSchema
from month3_messaging.codecs.order_placed import codecs
from scalelab.errors import InvalidInput

DATA: Mapping[str, object] = {
    "order_id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "user_id": "ü",
    "placed_at_us": 1_767_323_045_678_900,
    "currency": "EUR",
    "total_minor": 3998,
    "lines": [{"product_id": "p-0001", "quantity": 2, "price_minor": 1999}],
}
WITH_NOTE = {**DATA, "note": "ring twice"}


@pytest.fixture(params=[0, 1, 2], ids=["json", "protobuf", "avro"])
def number(request: pytest.FixtureRequest) -> int:
    """Which of the formats."""
    return int(request.param)


@pytest.fixture
def old(number: int) -> Codec:
    """A program of revision 1."""
    return codecs(1)[number]


@pytest.fixture
def new(number: int) -> Codec:
    """A program of revision 2."""
    return codecs(2)[number]


def test_what_was_encoded_is_decoded(new: Codec) -> None:
    """C1."""
    assert new.decode(new.encode(WITH_NOTE), 2) == WITH_NOTE


def test_a_missing_note_is_none(new: Codec) -> None:
    """C1: the optional member is filled in."""
    assert new.decode(new.encode(DATA), 2) == {**DATA, "note": None}


def test_a_new_reader_reads_old_messages(old: Codec, new: Codec) -> None:
    """C2, backward."""
    assert new.decode(old.encode(DATA), 1) == {**DATA, "note": None}


def test_an_old_reader_reads_new_messages(old: Codec, new: Codec) -> None:
    """C2, forward."""
    assert old.decode(new.encode(WITH_NOTE), 2) == DATA


@pytest.mark.parametrize(
    "changed",
    [{"total_minor": "3998"}, {"lines": "none"}, {"surprise": 1}, {"lines": [{"quantity": "2"}]}],
    ids=["type", "list", "name", "inside"],
)
def test_data_that_do_not_fit_are_refused(new: Codec, changed: Mapping[str, object]) -> None:
    """C3."""
    with pytest.raises(InvalidInput):
        new.encode({**DATA, **changed})


def test_a_text_that_is_not_utf8_has_a_code(new: Codec) -> None:
    """C4: the same for every format."""
    damaged = new.encode(DATA).replace("ü".encode(), b"\xff\xfe")
    with pytest.raises(InvalidUtf8) as told:
        new.decode(damaged, 2)
    assert told.value.stable_code == "invalid_utf8"


def test_bytes_that_end_early_have_a_code(new: Codec) -> None:
    """C4: wherever they end."""
    whole = new.encode(DATA)
    with pytest.raises(WrongSchema) as told:
        new.decode(whole[:-2], 2)
    assert told.value.stable_code == "wrong_schema"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=200))
def test_any_bytes_are_data_or_an_error_of_ours(new: Codec, value: bytes) -> None:
    """C4."""
    with contextlib.suppress(WrongSchema, InvalidUtf8):
        assert new.decode(value, 2).keys() == {*DATA, "note"}
