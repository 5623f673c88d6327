"""Schema changes on two real shards: phases, a lock in the way, a shard that is away."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from month2_databases.sharding import Phase, ShardMigrations, read_history
from scalelab.errors import InvalidInput

CREATE = """
revision, down_revision = "0001", None
phase = "expand"
def upgrade():
    op.execute("CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL)")
    op.execute("INSERT INTO person SELECT n, 'person ' || n FROM generate_series(1, 25) AS n")
"""
EXPAND = """
revision, down_revision = "0002", "0001"
phase = "expand"
def upgrade():
    op.execute("ALTER TABLE person ADD COLUMN full_name text")
"""
BACKFILL = """
revision, down_revision = "0003", "0002"
phase = "backfill"
batch = '''UPDATE person SET full_name = name WHERE id IN
           (SELECT id FROM person WHERE full_name IS NULL LIMIT 10)'''
def upgrade():
    pass
"""
CONTRACT = """
revision, down_revision = "0004", "0003"
phase = "contract"
def upgrade():
    op.execute("ALTER TABLE person DROP COLUMN name")
"""


def written(folder: Path, *texts: str) -> Path:
    versions = folder / "versions"
    versions.mkdir(parents=True)
    for number, text in enumerate(texts):
        (versions / f"r{number}.py").write_text("from alembic import op\n" + text)
    return folder


@pytest.fixture
def dsns(cluster: Any) -> Iterator[dict[str, str]]:
    """A fresh database on each shard."""
    name = f"m_{uuid.uuid4().hex[:12]}"
    servers = {"shard-0": cluster.primary, "shard-1": cluster.lone}
    yield {shard: server.ensure_database(name, "orders") for shard, server in servers.items()}
    for server in servers.values():
        cluster.execute(server, f"DROP DATABASE {name} WITH (FORCE)", database="postgres")


def columns(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'person'"
        ).fetchall()
    return {row[0] for row in rows}


def test_a_change_reaches_all_shards_phase_by_phase(dsns: dict[str, str], tmp_path: Path) -> None:
    """Old and new columns stand side by side until the contract; a run twice does nothing more."""
    script = written(tmp_path, CREATE, EXPAND, BACKFILL, CONTRACT)
    pauses: list[float] = []
    migrations = ShardMigrations(dsns, script, sleep=pauses.append)
    expanded = migrations.run(Phase.EXPAND)
    assert expanded.versions == {"shard-0": "0002", "shard-1": "0002"}
    assert all(columns(dsn) == {"id", "name", "full_name"} for dsn in dsns.values())
    filled = migrations.run(Phase.BACKFILL)
    assert filled.is_complete
    assert len(pauses) == 2 * 3  # 25 rows by 10, on two shards
    assert migrations.run(Phase.CONTRACT).versions == {"shard-0": "0004", "shard-1": "0004"}
    assert all(columns(dsn) == {"id", "full_name"} for dsn in dsns.values())
    again = migrations.run(Phase.CONTRACT)
    assert (again.is_complete, again.tries) == (True, 0)


def test_a_lock_in_the_way_is_waited_for_in_short_tries(
    dsns: dict[str, str], tmp_path: Path
) -> None:
    """While it stands the change is tried, let go and tried again; when it is gone, it succeeds."""
    written(tmp_path / "first", CREATE)
    ShardMigrations(dsns, tmp_path / "first").run(Phase.EXPAND)
    script = written(tmp_path / "second", CREATE, EXPAND)
    reader = psycopg.connect(dsns["shard-1"])
    reader.execute("SELECT count(*) FROM person")  # a transaction that stays open
    tried = threading.Event()

    def pause(_seconds: float) -> None:
        tried.set()
        reader.close()

    report = ShardMigrations(dsns, script, lock_timeout_s=0.2, sleep=pause).run(Phase.EXPAND)
    assert tried.is_set()
    assert report.versions == {"shard-0": "0002", "shard-1": "0002"}
    assert report.tries == 3


def test_a_lock_that_stays_stops_its_shard_only(dsns: dict[str, str], tmp_path: Path) -> None:
    """After so many tries; nothing of the revision is left there, and the next run finishes it."""
    written(tmp_path / "first", CREATE)
    ShardMigrations(dsns, tmp_path / "first").run(Phase.EXPAND)
    script = written(tmp_path / "second", CREATE, EXPAND)
    pauses: list[float] = []
    migrations = ShardMigrations(
        dsns, script, lock_timeout_s=0.1, attempts=3, pause_s=1.0, sleep=pauses.append
    )
    with psycopg.connect(dsns["shard-0"]) as reader:
        reader.execute("SELECT count(*) FROM person")
        report = migrations.run(Phase.EXPAND)
    assert report.failed["shard-0"].stable_code == "lock_timeout"
    assert report.versions == {"shard-0": "0001", "shard-1": "0002"}
    assert pauses == [1.0, 2.0]
    assert "full_name" not in columns(dsns["shard-0"])
    assert migrations.run(Phase.EXPAND).is_complete


def test_a_shard_that_is_away_holds_the_contract_and_catches_up(
    cluster: Any, dsns: dict[str, str], tmp_path: Path
) -> None:
    """The others expand; nobody contracts; after its return one run brings all to the end."""
    script = written(tmp_path, CREATE, EXPAND, BACKFILL, CONTRACT)
    migrations = ShardMigrations(dsns, script, sleep=lambda _seconds: None)
    cluster.runtime.kill("shard-1")
    try:
        report = migrations.run(Phase.CONTRACT)
    finally:
        cluster.runtime.restart("shard-1")
    assert report.versions == {"shard-0": "0003"}
    assert report.failed["shard-1"].stable_code == "database_unavailable"
    assert report.held is not None
    assert report.held.waits_for == ("shard-1",)
    assert columns(dsns["shard-0"]) == {"id", "name", "full_name"}
    done = migrations.run(Phase.CONTRACT)
    assert (done.is_complete, set(done.versions.values())) == (True, {"0004"})


def test_broken_sql_stops_its_shard_with_a_clear_error(
    dsns: dict[str, str], tmp_path: Path
) -> None:
    """In a revision as in a batch; nothing of it stays."""
    broken = EXPAND.replace("ALTER TABLE person", "ALTER TABLE nobody")
    report = ShardMigrations(dsns, written(tmp_path / "a", CREATE, broken)).run(Phase.EXPAND)
    assert {error.stable_code for error in report.failed.values()} == {"database_error"}
    assert set(report.versions.values()) == {"0001"}
    batch = BACKFILL.replace("full_name = name", "full_name = nonsense")
    again = ShardMigrations(dsns, written(tmp_path / "b", CREATE, EXPAND, batch))
    assert again.run(Phase.BACKFILL).failed.keys() == {"shard-0", "shard-1"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (CREATE.replace('phase = "expand"', ""), "revision_without_phase"),
        (CREATE.replace('"expand"', '"rewrite"'), "revision_without_phase"),
        (CREATE.replace('"expand"', '"backfill"'), "backfill_without_batch"),
        (CREATE.replace('"expand"', '"expand"\nbatch = "UPDATE"'), "backfill_without_batch"),
    ],
)
def test_a_history_that_does_not_say_its_phases_is_refused(
    tmp_path: Path, text: str, code: str
) -> None:
    """Before any shard is touched."""
    with pytest.raises(InvalidInput) as refusal:
        read_history(written(tmp_path, text))
    assert refusal.value.stable_code == code
