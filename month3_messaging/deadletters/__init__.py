"""Dead letters of consumer groups: kept on a desk, looked at, edited, replayed or discarded."""

from month3_messaging.deadletters.api import desk_router
from month3_messaging.deadletters.carrying import collect, send_decided
from month3_messaging.deadletters.cleaning import clean_forever
from month3_messaging.deadletters.desk import Desk, Source
from month3_messaging.deadletters.letter import Letter, Place, State
from month3_messaging.deadletters.letters_postgres import AuditLine, Kept
from month3_messaging.deadletters.page import page_router
from month3_messaging.deadletters.service import MIGRATIONS, DeskSettings, create, migrate

__all__ = [
    "MIGRATIONS",
    "AuditLine",
    "Desk",
    "DeskSettings",
    "Kept",
    "Letter",
    "Place",
    "Source",
    "State",
    "clean_forever",
    "collect",
    "create",
    "desk_router",
    "migrate",
    "page_router",
    "send_decided",
]
