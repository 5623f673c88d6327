"""Orders of many months in a fresh database, and buckets of their own on the session's S3."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scalelab.lab.servers import VersityGw
from tests.integration.month2.archive.archive_bed import Bed, open_bed


@pytest.fixture
async def bed(database_dsn: str, s3_server: VersityGw, bucket_name: str) -> AsyncIterator[Bed]:
    """240 orders of eight months; nothing is cold yet."""
    async with open_bed(database_dsn, s3_server, bucket_name, 240) as bed:
        yield bed
