"""`python -m month3_messaging.partners [prepare]`: the process, or its tables and products.

Settings come from PARTNERS_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month3_messaging.partners.service import PartnersSettings, create, migrate
from scalelab.web.process import service_command

if __name__ == "__main__":
    sys.exit(
        service_command(
            "month3_messaging.partners",
            "partners",
            cast("Callable[[], PartnersSettings]", PartnersSettings),
            create,
            migrate,
        )
    )
