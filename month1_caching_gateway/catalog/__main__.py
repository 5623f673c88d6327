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
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month1_caching_gateway.catalog [prepare]\n")
        return 2
    settings = cast(Callable[[], CatalogSettings], CatalogSettings)()
    if arguments:
        asyncio.run(prepare(settings))
        return 0
    run_service("catalog", settings, create)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
