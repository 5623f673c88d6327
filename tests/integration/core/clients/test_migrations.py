"""Migrations: all or nothing, once, whoever starts them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from scalelab.clients.migrations import upgrade
from scalelab.errors import Unavailable

FIRST = """
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.execute("CREATE TABLE a (n int); INSERT INTO a VALUES (1)")
"""
SECOND = """
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.execute("ALTER TABLE a ADD COLUMN m int NOT NULL DEFAULT 7")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "0001_first.py").write_text(FIRST)
    return tmp_path


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query.encode()).fetchall()


def test_pending_revisions_run_once_and_in_order(database_dsn: str, script: Path) -> None:
    """A second start finds nothing to do; a new revision is added to what is there."""
    upgrade(database_dsn, script)
    upgrade(database_dsn, script)
    (script / "versions" / "0002_second.py").write_text(SECOND)
    upgrade(database_dsn, script)
    assert rows(database_dsn, "SELECT n, m FROM a") == [(1, 7)]
    assert rows(database_dsn, "SELECT version_num FROM alembic_version") == [("0002",)]


def test_several_processes_may_start_at_once(database_dsn: str, script: Path) -> None:
    """One migrates, the others wait and go on."""
    (script / "versions" / "0002_second.py").write_text(SECOND)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: upgrade(database_dsn, script), range(4)))
    assert rows(database_dsn, "SELECT n, m FROM a") == [(1, 7)]


def test_a_failed_revision_leaves_nothing_behind(database_dsn: str, script: Path) -> None:
    """The first revision is rolled back with the second."""
    broken = SECOND.replace("ALTER TABLE a", "ALTER TABLE nonsense")
    (script / "versions" / "0002_second.py").write_text(broken)
    with pytest.raises(Exception, match="nonsense"):
        upgrade(database_dsn, script)
    assert rows(database_dsn, "SELECT FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_server_that_is_away_is_unavailable(script: Path) -> None:
    """The caller may try again."""
    with pytest.raises(Unavailable):
        upgrade("postgresql://nobody@127.0.0.1:1/none", script)
