"""Online resharding: slots move between servers while writes to them go on."""

from month2_databases.resharding.bulk_copy import BulkCopy
from month2_databases.resharding.command import MoverSettings
from month2_databases.resharding.command import abort as abort_move
from month2_databases.resharding.command import move as move_slots
from month2_databases.resharding.command import resume as resume_move
from month2_databases.resharding.command import status as shards_and_moves
from month2_databases.resharding.journal import JOURNAL_DDL, Journal
from month2_databases.resharding.mover import (
    ABORT_POINTS,
    POINTS,
    MoveHook,
    Mover,
    MoveReport,
    MoveSettings,
)
from month2_databases.resharding.pace import Pace
from month2_databases.resharding.rows import delete_rows, layouts_of
from month2_databases.resharding.servers import ShardServer
from month2_databases.resharding.steps import Move, Step
from month2_databases.resharding.tables import EmptiedTable, MovedTable
from month2_databases.resharding.telling import lines_of_move, lines_of_shards
from scalelab.clients.change_stream import SlotLost

__all__ = [
    "ABORT_POINTS",
    "JOURNAL_DDL",
    "POINTS",
    "BulkCopy",
    "EmptiedTable",
    "Journal",
    "Move",
    "MoveHook",
    "MoveReport",
    "MoveSettings",
    "MovedTable",
    "Mover",
    "MoverSettings",
    "Pace",
    "ShardServer",
    "SlotLost",
    "Step",
    "abort_move",
    "delete_rows",
    "layouts_of",
    "lines_of_move",
    "lines_of_shards",
    "move_slots",
    "resume_move",
    "shards_and_moves",
]
