"""The provider served over real HTTP, for as long as a block lasts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from month6_capstone.payments.provider import ProviderSettings, create
from tests.integration.month6.payments.serving import quiet, serving


@dataclass(frozen=True, slots=True)
class RunningProvider:
    """A served provider: its address and its book."""

    url: str
    book_path: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.book_path.read_text().splitlines()]


@asynccontextmanager
async def provider_on(book_path: Path, *, hang_s: float = 60.0) -> AsyncGenerator[RunningProvider]:
    """Serve the provider until the block ends."""
    settings = ProviderSettings(port=1, book_path=book_path, hang_s=hang_s)
    async with serving(create(settings, quiet("provider")), until_ready=True) as url:
        yield RunningProvider(url, book_path)
