"""Online resharding: slots move between servers while writes to them go on."""

from month2_databases.resharding.bulk_copy import BulkCopy
from month2_databases.resharding.change_stream import SlotLost
from month2_databases.resharding.journal import JOURNAL_DDL, Journal
from month2_databases.resharding.mover import POINTS, MoveHook, Mover, MoveReport, MoveSettings
from month2_databases.resharding.pace import Pace
from month2_databases.resharding.rows import delete_rows, layouts_of
from month2_databases.resharding.servers import ShardServer
from month2_databases.resharding.steps import Move, Step
from month2_databases.resharding.tables import MovedTable

__all__ = [
    "JOURNAL_DDL",
    "POINTS",
    "BulkCopy",
    "Journal",
    "Move",
    "MoveHook",
    "MoveReport",
    "MoveSettings",
    "MovedTable",
    "Mover",
    "Pace",
    "ShardServer",
    "SlotLost",
    "Step",
    "delete_rows",
    "layouts_of",
]
