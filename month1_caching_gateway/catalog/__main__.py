"""`python -m month1_caching_gateway.catalog [prepare]`: one replica, or its tables and first rows.

Settings come from CATALOG_… variables. A replica keeps nothing of its own: any number of them
serve one database and one cache.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from month1_caching_gateway.catalog.service import CatalogSettings, create, prepare
from scalelab.web.process import service_command


def _prepare(settings: CatalogSettings) -> None:
    asyncio.run(prepare(settings))


if __name__ == "__main__":
    sys.exit(
        service_command(
            "month1_caching_gateway.catalog",
            "catalog",
            cast("Callable[[], CatalogSettings]", CatalogSettings),
            create,
            _prepare,
        )
    )
