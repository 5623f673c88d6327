"""What a stored file must hold: counts and hashes, written down before any row is deleted.

Two hashes, because two things can go wrong. `file_sha256` is of the object's bytes: it finds a
flipped bit. `rows_sha256` is of the rows themselves in the order of their ids, whatever file they
stand in: it finds a row that has changed in the database since it was exported, and a Parquet
writer that lost something.

An object's name ends in the beginning of its file's hash. So an export that is done again after a
crash either finds its own object or makes another one; it never writes over a different one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, cast
from uuid import UUID

from month2_databases.archive.temperature import OrderRow
from scalelab.errors import CorruptData, InvalidInput

PREFIX = "orders/"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one file. rows: count. amount_cents: sum. first_id, last_id: of the rows, inclusive."""

    batch_id: int
    month: date
    rows: int
    amount_cents: int
    first_id: UUID
    last_id: UUID
    rows_sha256: str
    bytes: int
    file_sha256: str

    @property
    def key(self) -> str:
        """Name of the object: `orders/month=2026-01/00000007-0123456789ab.parquet`."""
        name = f"{self.batch_id:08d}-{self.file_sha256[:12]}.parquet"
        return f"{PREFIX}month={self.month:%Y-%m}/{name}"

    @property
    def manifest_key(self) -> str:
        """Name of the object that holds this manifest."""
        return f"{self.key}.json"


def rows_digest(rows: Iterable[OrderRow]) -> str:
    """SHA-256 of rows in their order, in hex. Each field is delimited: no two lists share one."""
    digest = hashlib.sha256()
    for row in rows:
        fields = [str(row.order_id), row.user_id, row.country, row.amount_cents, row.state]
        line = json.dumps([*fields, row.placed_at.isoformat(timespec="microseconds")])
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def manifest_of(batch_id: int, month: date, rows: Sequence[OrderRow], file: bytes) -> Manifest:
    """The manifest of a file with these rows, in ascending order of their ids.

    Raises InvalidInput if there are none, or if they are out of order or doubled.
    """
    if not rows:
        raise InvalidInput("a file without rows is not stored", field="rows")
    ids = [row.order_id for row in rows]
    if any(after <= before for before, after in itertools.pairwise(ids)):
        raise InvalidInput("rows must ascend by id", field="rows")
    return Manifest(
        batch_id=batch_id,
        month=month,
        rows=len(rows),
        amount_cents=sum(row.amount_cents for row in rows),
        first_id=ids[0],
        last_id=ids[-1],
        rows_sha256=rows_digest(rows),
        bytes=len(file),
        file_sha256=hashlib.sha256(file).hexdigest(),
    )


def check_file(manifest: Manifest, file: bytes) -> None:
    """Raise CorruptData `object_corrupt` unless these are the very bytes that were written down."""
    found = hashlib.sha256(file).hexdigest()
    if (len(file), found) != (manifest.bytes, manifest.file_sha256):
        raise CorruptData(
            f"{manifest.key} has {len(file)} bytes with hash {found[:12]}; "
            f"{manifest.bytes} with {manifest.file_sha256[:12]} were stored",
            code="object_corrupt",
        )


def check_rows(manifest: Manifest, rows: Sequence[OrderRow]) -> None:
    """Raise CorruptData `rows_differ` unless count, sum and hash are those written down."""
    found = (len(rows), sum(row.amount_cents for row in rows), rows_digest(rows))
    if found != (manifest.rows, manifest.amount_cents, manifest.rows_sha256):
        raise CorruptData(
            f"{manifest.key}: {found[0]} rows worth {found[1]} cents instead of {manifest.rows} "
            f"worth {manifest.amount_cents}, or the same with other contents",
            code="rows_differ",
        )


def to_json(manifest: Manifest) -> str:
    """As text, one line, for the journal and for the object beside the file."""
    plain = asdict(manifest)
    plain["month"] = f"{manifest.month:%Y-%m}"
    plain["first_id"], plain["last_id"] = str(manifest.first_id), str(manifest.last_id)
    return json.dumps({"format": _FORMAT, **plain}, sort_keys=True)


def from_json(text: str | bytes) -> Manifest:
    """The manifest again. Raises CorruptData `manifest_corrupt` on anything else."""
    try:
        read = cast("dict[str, Any]", json.loads(text))
        if read.pop("format") != _FORMAT:
            raise ValueError("an unknown format")
        read["month"] = date.fromisoformat(f"{read['month']}-01")
        read["first_id"], read["last_id"] = UUID(read["first_id"]), UUID(read["last_id"])
        return Manifest(**read)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptData(f"this is no manifest: {error}", code="manifest_corrupt") from error
