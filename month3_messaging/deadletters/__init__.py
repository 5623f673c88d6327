"""Dead letters of consumer groups: kept on a desk, looked at, edited, replayed or discarded.

`list_letters` and `replay` work straight on the topic, for a group that has no desk.
"""

from month3_messaging.deadletters.api import desk_router
from month3_messaging.deadletters.carrying import collect, send_decided
from month3_messaging.deadletters.desk import Desk, Source
from month3_messaging.deadletters.letter import Letter, Place, State
from month3_messaging.deadletters.letters_postgres import AuditLine, Kept
from month3_messaging.deadletters.page import page_router
from month3_messaging.deadletters.replay import DeadLetter, list_letters, replay
from month3_messaging.deadletters.service import MIGRATIONS, DeskSettings, create, migrate

__all__ = [
    "MIGRATIONS",
    "AuditLine",
    "DeadLetter",
    "Desk",
    "DeskSettings",
    "Kept",
    "Letter",
    "Place",
    "Source",
    "State",
    "collect",
    "create",
    "desk_router",
    "list_letters",
    "migrate",
    "page_router",
    "replay",
    "send_decided",
]
