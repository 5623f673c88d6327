"""The other way to find the primary: a DSN with all hosts, and libpq looks for one that writes.

libpq tries the hosts in order and keeps the first whose server is read-write. It knows no lease
and no timeline: of two primaries it takes the one that stands first, be it the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from scalelab.errors import InvalidInput


def any_primary(
    hosts: Sequence[tuple[str, int]],
    *,
    database: str,
    role: str,
    password: str,
    connect_timeout_s: int = 2,
) -> str:
    """A DSN for `hosts` (name, port). connect_timeout_s: a host, >= 2: libpq reads 1 as 2."""
    if not hosts:
        raise InvalidInput("a DSN for any primary needs at least one host", field="hosts")
    if connect_timeout_s < 2:
        raise InvalidInput("libpq waits at least 2 s for a host", field="connect_timeout_s")
    who = f"{quote(role, safe='')}:{quote(password, safe='')}"
    where = ",".join(f"{host}:{port}" for host, port in hosts)
    options = urlencode(
        {"target_session_attrs": "read-write", "connect_timeout": connect_timeout_s}
    )
    return f"postgresql://{who}@{where}/{quote(database, safe='')}?{options}"
