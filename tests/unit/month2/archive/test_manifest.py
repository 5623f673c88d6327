"""A file and its rows against what was written down of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.archive import (
    GROUP_ROWS,
    OrderRow,
    check_file,
    check_rows,
    decode,
    encode,
    from_json,
    manifest_of,
    rows_digest,
    rows_of,
    to_json,
)
from scalelab.errors import CorruptData, InvalidInput

MARCH = date(2026, 3, 1)
ROWS = st.lists(
    st.builds(
        OrderRow,
        order_id=st.uuids(),
        user_id=st.text(min_size=1, max_size=20),
        country=st.sampled_from(("de", "fr")),
        amount_cents=st.integers(0, 2**53),
        state=st.sampled_from(("confirmed", "cancelled")),
        placed_at=st.datetimes(
            datetime(2026, 3, 1),  # noqa: DTZ001 - hypothesis adds the zone
            datetime(2026, 3, 31),  # noqa: DTZ001
            timezones=st.just(UTC),
        ),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row.order_id,
).map(lambda rows: sorted(rows, key=lambda row: row.order_id))


def rows_like(count: int) -> list[OrderRow]:
    """So many rows."""
    placed_at = datetime(2026, 3, 2, 3, 4, 5, 6, tzinfo=UTC)
    return [
        OrderRow(UUID(int=n + 1), f"u{n}", "de", n, "confirmed", placed_at) for n in range(count)
    ]


@given(ROWS)
def test_rows_survive_a_file_and_agree_with_its_manifest(rows: list[OrderRow]) -> None:
    """Any text, any amount, every microsecond."""
    file = encode(rows)
    manifest = manifest_of(7, MARCH, rows, file)
    assert rows_of(decode(file)) == rows
    check_file(manifest, file)
    check_rows(manifest, rows_of(decode(file)))
    assert from_json(to_json(manifest)) == manifest


def test_the_same_rows_give_the_same_bytes() -> None:
    """An export that is done again after a crash finds its own object."""
    rows = rows_like(GROUP_ROWS + 5)
    assert encode(rows) == encode(list(rows))


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_every_flipped_bit_is_found(where: int, bit: int) -> None:
    """Whatever it hits: data, footer or padding."""
    file = bytearray(FILE)
    file[where % len(file)] ^= 1 << bit
    with pytest.raises(CorruptData) as refused:
        check_file(MANIFEST, bytes(file))
    assert refused.value.stable_code == "object_corrupt"


FILE = encode(rows_like(50))
MANIFEST = manifest_of(1, MARCH, rows_like(50), FILE)


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "u2"},
        {"country": "fr"},
        {"amount_cents": 9},
        {"state": "cancelled"},
        {"placed_at": datetime(2026, 3, 2, 3, 4, 5, 7, tzinfo=UTC)},
    ],
)
def test_any_changed_field_is_found(change: dict[str, object]) -> None:
    """Also where count and sum stay."""
    rows = rows_like(50)
    rows[3] = replace(rows[3], **change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CorruptData) as refused:
        check_rows(MANIFEST, rows)
    assert refused.value.stable_code == "rows_differ"


@pytest.mark.parametrize("rows", [rows_like(49), rows_like(51), rows_like(50)[::-1]])
def test_a_row_too_few_too_many_or_out_of_place_is_found(rows: list[OrderRow]) -> None:
    """The hash is of the rows in their order."""
    with pytest.raises(CorruptData):
        check_rows(MANIFEST, rows)


def test_fields_do_not_run_into_each_other() -> None:
    """Two rows whose fields have the same letters in a row do not share a hash."""
    (row,) = rows_like(1)
    one = replace(row, user_id="ab", country="c")
    other = replace(row, user_id="a", country="bc")
    assert rows_digest([one]) != rows_digest([other])


@pytest.mark.parametrize("rows", [[], rows_like(2)[::-1], [*rows_like(1), *rows_like(1)]])
def test_a_file_without_rows_or_with_doubles_is_refused(rows: list[OrderRow]) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidInput):
        manifest_of(1, MARCH, rows, b"")


def test_a_key_names_the_month_the_number_and_the_content() -> None:
    """So another content never writes over it."""
    other = replace(MANIFEST, file_sha256="0" * 64)
    assert MANIFEST.key.startswith("orders/month=2026-03/00000001-")
    assert MANIFEST.key != other.key


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "null", '{"format": 1}'])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    """With one code, whatever is wrong with it."""
    with pytest.raises(CorruptData) as refused:
        from_json(text)
    assert refused.value.stable_code == "manifest_corrupt"


def test_a_manifest_with_an_unknown_field_is_refused() -> None:
    """Somebody else's, or a later one's."""
    with pytest.raises(CorruptData):
        from_json(to_json(MANIFEST).replace('"rows"', '"rowz"'))


@pytest.mark.parametrize("file", [b"", b"PAR1", b"x" * 1000, FILE[:-9]])
def test_what_is_no_parquet_file_is_refused(file: bytes) -> None:
    """Before any row of it is believed."""
    with pytest.raises(CorruptData) as refused:
        decode(file)
    assert refused.value.stable_code == "not_parquet"
