"""`python -m month3_messaging.deadletters [prepare]`: the desk's process, or its tables.

Settings come from DESK_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month3_messaging.deadletters.service import DeskSettings, create, migrate
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month3_messaging.deadletters [prepare]\n")
        return 2
    settings = cast(Callable[[], DeskSettings], DeskSettings)()
    if arguments:
        migrate(settings.database_dsn)
        return 0
    run_service("desk", settings, create)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
