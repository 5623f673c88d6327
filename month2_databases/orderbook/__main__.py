"""`python -m month2_databases.orderbook [prepare]`: the service, or the tables of its shards.

Settings come from ORDERBOOK_… variables.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from month2_databases.orderbook.service import OrderBookSettings, create, prepare
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month2_databases.orderbook [prepare]\n")
        return 2
    settings = cast(Callable[[], OrderBookSettings], OrderBookSettings)()
    if arguments:
        asyncio.run(prepare(settings))
        return 0
    run_service("orderbook", settings, create)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
