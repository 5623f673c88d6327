"""`python -m month3_messaging.partners [prepare]`: the process, or its tables and products.

Settings come from PARTNERS_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month3_messaging.partners.service import PartnersSettings, create, migrate
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month3_messaging.partners [prepare]\n")
        return 2
    settings = cast(Callable[[], PartnersSettings], PartnersSettings)()
    if arguments:
        migrate(settings)
        return 0
    run_service("partners", settings, create)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
