"""Redis: a client with deadlines and no hidden retries, and its errors in our tree.

The library would repeat a failed command on its own. That multiplies deadlines and repeats
commands that are not idempotent, so it is switched off here: `scalelab.resilience` decides.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import redis.asyncio as redis_asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scalelab.errors import OutcomeUnknown, Overloaded, ScalelabError, Unavailable


def connect(
    url: str,
    *,
    timeout_s: float = 0.25,
    connect_timeout_s: float = 0.5,
    max_connections: int = 64,
    client_name: str | None = None,
    decode_responses: bool = False,
) -> redis_asyncio.Redis:
    """A client for `url` (redis://host:port/db); connects on first use. Close with `aclose()`.

    timeout_s: for every answer. max_connections: more parallel callers get Overloaded.
    """
    # from_url passes its options through untyped.
    pool = redis_asyncio.ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_timeout_s,
        max_connections=max_connections,
        client_name=client_name,
        decode_responses=decode_responses,
        protocol=3,
        retry=Retry(NoBackoff(), 0),
    )
    return redis_asyncio.Redis.from_pool(pool)


@contextmanager
def map_errors(*, read_only: bool = False) -> Generator[None, None, None]:
    """Translate what the block's Redis commands raise.

    A connection that could not be made is Unavailable. One that broke or fell silent after a
    command was sent is OutcomeUnknown, or Unavailable when the block only reads.
    """
    try:
        yield
    except exceptions.MaxConnectionsError as error:
        raise Overloaded(f"Redis: {error}", code="redis_pool") from error
    except (exceptions.BusyLoadingError, exceptions.ReadOnlyError) as error:
        raise Unavailable(f"Redis: {error}", code="redis_unavailable") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        if read_only or _never_connected(error):
            raise Unavailable(f"Redis: {error}", code="redis_unavailable") from error
        raise OutcomeUnknown(f"Redis did not answer: {error}") from error
    except exceptions.OutOfMemoryError as error:
        raise Unavailable(f"Redis: {error}", code="redis_full") from error
    except exceptions.RedisError as error:
        raise ScalelabError(f"Redis refused a command: {error}", code="redis_error") from error


def _never_connected(error: Exception) -> bool:
    """Whether the failure happened before any command could have been sent.

    The library raises the same class for both; the messages of its connect path are the only
    difference, and a message we do not know counts as "may have been sent".
    """
    said = str(error)
    return "connecting to" in said or "Connect call failed" in said
