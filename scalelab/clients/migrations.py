"""Bring a database's schema up to date with Alembic, one process at a time.

A room keeps plain SQL in `versions/*.py` (`op.execute`); there is no env.py and no ini file to
copy. Everything runs in one transaction under an advisory lock: several processes may start at
once, one migrates, the others wait and find nothing to do. `lock_timeout` makes a migration that
would queue behind a long transaction fail instead of blocking all traffic behind itself.

Alembic and SQLAlchemy are loaded by the call, not by the import: a service that only names its
migrations would carry 25 MiB and 0.3 s of start for nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from psycopg.conninfo import conninfo_to_dict

from scalelab.errors import Unavailable

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

_LOCK_KEY = 0x5CA1E1AB
"""Advisory lock shared by all migrations of one database."""

_LOCK_TIMEOUT = "55P03"

_ONE_AT_A_TIME = threading.Lock()
"""Alembic's `op` is one object for the whole process; two threads would mix their statements."""


def upgrade(
    dsn: str,
    script_location: Path,
    *,
    target: str = "head",
    lock_timeout_s: float = 3.0,
    wait_for_others_s: float = 60.0,
) -> None:
    """Apply every revision under `script_location`/versions that the database lacks.

    target: the revision to stop at. A database that is further already is left as it is.
    Blocking: call it in a thread from async code. All or nothing: an error rolls all back.
    Raises Unavailable if the server is away; code `lock_timeout` if another process migrates for
    too long, or a table stays locked.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    script = ScriptDirectory(str(script_location))
    engine = create_engine(_sqlalchemy_url(dsn), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            # SET LOCAL takes no parameters; both values are numbers of our own.
            connection.execute(text(f"SET LOCAL lock_timeout = {round(wait_for_others_s * 1000)}"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            connection.execute(text(f"SET LOCAL lock_timeout = {round(lock_timeout_s * 1000)}"))
            _apply(script, MigrationContext.configure(connection), target)
    except OperationalError as error:
        locked = getattr(error.orig, "sqlstate", None) == _LOCK_TIMEOUT
        code = "lock_timeout" if locked else "database_unavailable"
        raise Unavailable(f"cannot migrate: {error.orig}", code=code) from error
    finally:
        engine.dispose()


def _apply(script: ScriptDirectory, context: MigrationContext, target: str) -> None:
    """Run the revisions between the database's and the target, oldest first."""
    from alembic.operations import Operations

    current = context.get_current_revision() or "base"
    passed = {revision.revision for revision in script.iterate_revisions(current, "base")}
    if target in passed:
        return
    pending = list(script.iterate_revisions(target, current))
    with _ONE_AT_A_TIME, Operations.context(context):
        for revision in reversed(pending):
            revision.module.upgrade()
            context.stamp(script, revision.revision)


def _sqlalchemy_url(dsn: str) -> str:
    """The same DSN with the driver named, as SQLAlchemy wants it."""
    for scheme in ("postgresql://", "postgres://"):
        if dsn.startswith(scheme):
            return "postgresql+psycopg://" + dsn.removeprefix(scheme)
    return "postgresql+psycopg:///?" + _as_query(dsn)


def _as_query(dsn: str) -> str:
    return urlencode({name: str(value) for name, value in conninfo_to_dict(dsn).items()})
