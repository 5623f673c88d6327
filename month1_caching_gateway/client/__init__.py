"""A small HTTP client that knows when to leave a service alone."""

from __future__ import annotations

from month1_caching_gateway.client.http_client import Client, ClientSettings, Fallback
from month1_caching_gateway.client.retry_after import asked_wait_s

__all__ = ["Client", "ClientSettings", "Fallback", "asked_wait_s"]
