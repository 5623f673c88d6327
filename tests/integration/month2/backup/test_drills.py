"""Both tools restore a dropped table to just before, from a primary that went on writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.backup import PgBackRest, Target, drill
from scalelab.errors import CorruptData

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("fixture", ["kept", "rested"])
def test_a_dropped_table_comes_back_as_it_was(fixture: str, request: pytest.FixtureRequest) -> None:
    """Same hash, every acknowledged row; the primary keeps running without its table."""
    started: Recovering = request.getfixturevalue(fixture)
    dsn = started.primary.superuser_dsn()
    report = drill(started.tool, dsn, started.into(), started.start_copy, rows=500, written=100)
    assert report.matches
    assert report.lost_rows == 0
    assert report.acknowledged >= 100
    with psycopg.connect(dsn, autocommit=True) as connection:
        gone = connection.execute("SELECT to_regclass('drill_order')").fetchone()
    assert gone == (None,)


def test_a_repository_in_order_verifies(rested: Recovering) -> None:
    assert rested.tool.verify() == len(rested.tool.backups())


def test_pgbackrest_refuses_a_flipped_bit(rested: Recovering) -> None:
    """In the largest file of its newest backup; what was unpacked by then is removed."""
    assert isinstance(rested.tool, PgBackRest)
    newest = rested.tool.backups()[-1].id
    files = (rested.tool.repository / "backup" / "main" / newest / "pg_data").rglob("*.gz")
    path = max(files, key=lambda file: file.stat().st_size)
    whole = path.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    into = rested.into()
    try:
        path.write_bytes(bytes(data))
        with pytest.raises(CorruptData) as refused:
            rested.tool.restore(Target(), into)
        with pytest.raises(CorruptData):
            rested.tool.verify()
    finally:
        path.write_bytes(whole)
    assert refused.value.stable_code == "backup_corrupt"
    assert not into.exists()
