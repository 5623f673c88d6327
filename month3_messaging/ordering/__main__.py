"""`python -m month3_messaging.ordering door|worker|prepare`: one process, or the tables.

Settings come from ORDERS_… and ORDERS_WORKER_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month3_messaging.ordering.door import DoorSettings, create_door, migrate
from month3_messaging.ordering.worker import WorkerSettings, create_worker
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    match arguments:
        case ["door"]:
            run_service("orders", cast(Callable[[], DoorSettings], DoorSettings)(), create_door)
        case ["worker"]:
            settings = cast(Callable[[], WorkerSettings], WorkerSettings)()
            run_service("orders-worker", settings, create_worker)
        case ["prepare"]:
            migrate(cast(Callable[[], DoorSettings], DoorSettings)().database_dsn)
        case _:
            sys.stderr.write("usage: python -m month3_messaging.ordering door|worker|prepare\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
