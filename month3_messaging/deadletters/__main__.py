"""`python -m month3_messaging.deadletters [prepare]`: the desk's process, or its tables.

Settings come from DESK_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month3_messaging.deadletters.service import DeskSettings, create, migrate
from scalelab.web.process import service_command


def _prepare(settings: DeskSettings) -> None:
    migrate(settings.database_dsn)


if __name__ == "__main__":
    sys.exit(
        service_command(
            "month3_messaging.deadletters",
            "desk",
            cast("Callable[[], DeskSettings]", DeskSettings),
            create,
            _prepare,
        )
    )
