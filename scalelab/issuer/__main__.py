"""`python -m scalelab.issuer`: the issuer as a process, until SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from scalelab.issuer.service import IssuerSettings, create
from scalelab.web.process import run_service

if __name__ == "__main__":
    run_service("issuer", cast(Callable[[], IssuerSettings], IssuerSettings)(), create)
