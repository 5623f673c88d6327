"""`python -m month2_databases.orderbook [prepare]`: the service, or the tables of its shards.

Settings come from ORDERBOOK_… variables.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from month2_databases.orderbook.service import OrderBookSettings, create, prepare
from scalelab.web.process import service_command


def _prepare(settings: OrderBookSettings) -> None:
    asyncio.run(prepare(settings))


if __name__ == "__main__":
    sys.exit(
        service_command(
            "month2_databases.orderbook",
            "orderbook",
            cast("Callable[[], OrderBookSettings]", OrderBookSettings),
            create,
            _prepare,
        )
    )
