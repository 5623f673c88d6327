"""Schema changes on all shards with Alembic: phase by phase, never long behind a lock, resumable.

A revision file says its phase beside what Alembic wants: `phase = "expand"`, `"backfill"` or
`"contract"`. A backfill has `batch`: one UPDATE that fills some rows and touches none when it is
done; its `upgrade()` runs after the last batch and may check. Every revision is one transaction
of its own on each shard.

An ALTER TABLE waits for every transaction that uses the table, and everybody who comes after it
waits behind it. So it waits for `lock_timeout_s` only, lets the queue go, and tries again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from month2_databases.sharding.schema_phases import Held, Phase, Revision, Turn, next_turn
from scalelab.clients.migrations import upgrade
from scalelab.errors import InvalidInput, ScalelabError, Unavailable


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """versions: where each shard stands (None: empty); absent if it could not be asked. failed: why
    a shard stopped. held: a contract that waits for shards that are behind. tries: of revisions."""

    versions: Mapping[str, str | None]
    failed: Mapping[str, ScalelabError]
    held: Held | None
    tries: int

    @property
    def is_complete(self) -> bool:
        """Whether every shard has everything that was asked for."""
        return not self.failed and self.held is None


@dataclass(frozen=True, slots=True)
class ShardMigrations:
    """One history for all shards. shards: a DSN each, of a role that owns the schema.

    attempts, pause_s: tries a revision and shard when a lock stands in the way, and the time
    between them, doubled each time. batch_pause_s: throttle of backfills.
    """

    shards: Mapping[str, str]
    script_location: Path
    lock_timeout_s: float = 1.0
    attempts: int = 5
    pause_s: float = 0.5
    batch_pause_s: float = 0.0
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(self, up_to: Phase) -> MigrationReport:
        """Bring every shard up to that phase. Blocking: call it in a thread from async code.

        Never raises for a shard: what failed is in the report, other shards go on, and the next
        run begins where this one stopped. Raises InvalidInput for a history that has no phases or
        is older than a shard.
        """
        history = read_history(self.script_location)
        versions, failed = self.versions()
        tries = 0
        # A shard that cannot be asked counts as empty: no contract may go past it.
        known = {shard: versions.get(shard) for shard in self.shards}
        while isinstance(turn := next_turn(history, known, up_to, failed=failed), Turn):
            for shard in turn.shards:
                try:
                    tries += self._apply(shard, turn.revision)
                    known[shard] = turn.revision.name
                except ScalelabError as error:
                    failed[shard] = error
        reached = {shard: at for shard, at in known.items() if shard in versions}
        return MigrationReport(reached, failed, turn, tries)

    def versions(self) -> tuple[dict[str, str | None], dict[str, ScalelabError]]:
        """Where each shard stands, and which could not be asked."""
        found: dict[str, str | None] = {}
        failed: dict[str, ScalelabError] = {}
        for shard, dsn in self.shards.items():
            try:
                found[shard] = _version(dsn)
            except psycopg.Error as error:
                failed[shard] = Unavailable(f"{shard}: {error}", code="database_unavailable")
        return found, failed

    def _apply(self, shard: str, revision: Revision) -> int:
        """One revision on one shard; returns how many tries it took."""
        from sqlalchemy.exc import SQLAlchemyError

        for attempt in range(1, self.attempts + 1):
            try:
                if revision.batch is not None:
                    self._fill(shard, revision.batch)
                upgrade(
                    self.shards[shard],
                    self.script_location,
                    target=revision.name,
                    lock_timeout_s=self.lock_timeout_s,
                )
            except Unavailable as error:
                if error.stable_code != "lock_timeout" or attempt == self.attempts:
                    raise
                self.sleep(self.pause_s * 2 ** (attempt - 1))
            except SQLAlchemyError as error:
                raise ScalelabError(
                    f"{shard} refused {revision.name}: {error}", code="database_error"
                ) from error
            else:
                return attempt
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _fill(self, shard: str, batch: str) -> None:
        """Repeat the batch, each in its own transaction, until it touches nothing."""
        lock_timeout = f"-c lock_timeout={round(self.lock_timeout_s * 1000)}"
        try:
            with psycopg.connect(self.shards[shard], autocommit=True, options=lock_timeout) as conn:
                while conn.execute(batch.encode()).rowcount > 0:
                    self.sleep(self.batch_pause_s)
        except psycopg.errors.LockNotAvailable as error:
            raise Unavailable(f"{shard}: {error}", code="lock_timeout") from error
        except psycopg.OperationalError as error:
            raise Unavailable(f"{shard}: {error}", code="database_unavailable") from error
        except psycopg.Error as error:
            raise ScalelabError(f"{shard} refused: {error}", code="database_error") from error


def read_history(script_location: Path) -> list[Revision]:
    """The revisions of the files, oldest first.

    Raises InvalidInput code `revision_without_phase`, or `backfill_without_batch`.
    """
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(script_location))
    found = [_revision(one.revision, one.module) for one in script.walk_revisions()]
    return found[::-1]


def _revision(name: str, module: Any) -> Revision:
    said = getattr(module, "phase", None)
    try:
        phase = Phase[str(said).upper()]
    except KeyError:
        raise InvalidInput(
            f"revision {name} says phase {said!r}; it must be expand, backfill or contract",
            code="revision_without_phase",
        ) from None
    batch = getattr(module, "batch", None)
    if (phase is Phase.BACKFILL) != isinstance(batch, str):
        raise InvalidInput(
            f"revision {name}: a backfill has a `batch`, others have none",
            code="backfill_without_batch",
        )
    return Revision(name, phase, batch)


def _version(dsn: str) -> str | None:
    """Alembic's own record; None where it has none yet."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as conn:
        row = conn.execute("SELECT to_regclass('alembic_version')").fetchone()
        if row is None or row[0] is None:
            return None
        row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
