"""Backup: sealed base backups and log, restores to a moment, drills, one point of all shards."""

from month2_databases.backup.barrier import BARRIER_LOCK, join_barrier, restore_point
from month2_databases.backup.drill import Contents, DrillReport, StartCopy, Writer, contents, drill
from month2_databases.backup.drill_history import append as append_drill
from month2_databases.backup.drill_history import read as read_drills
from month2_databases.backup.folder_tool import FolderSettings, FolderTool, archive_into
from month2_databases.backup.log_shipping import require_archiving, ship
from month2_databases.backup.pgbackrest import PgBackRest, PgBackRestSettings
from month2_databases.backup.recovery_target import (
    BackupRecord,
    Reached,
    Target,
    check_reached,
    parse_time,
)
from month2_databases.backup.restored_server import confirm
from month2_databases.backup.retention import Pruned
from month2_databases.backup.tool import BackupTool, Owner, Prepared

__all__ = [
    "BARRIER_LOCK",
    "BackupRecord",
    "BackupTool",
    "Contents",
    "DrillReport",
    "FolderSettings",
    "FolderTool",
    "Owner",
    "PgBackRest",
    "PgBackRestSettings",
    "Prepared",
    "Pruned",
    "Reached",
    "StartCopy",
    "Target",
    "Writer",
    "append_drill",
    "archive_into",
    "check_reached",
    "confirm",
    "contents",
    "drill",
    "join_barrier",
    "parse_time",
    "read_drills",
    "require_archiving",
    "restore_point",
    "ship",
]
