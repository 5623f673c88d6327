"""Who runs PostgreSQL, by what its lock file says."""

from __future__ import annotations

import pytest

from scalelab.lab.servers.patroni import postmaster_in


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        ("4711\n/var/lib/data\n1795789993\n", 4711),
        ("4711", 4711),
        ("-27261\n/var/lib/data\n", None),
        ("", None),
        ("\n", None),
        ("half a li", None),
    ],
)
def test_a_server_that_recovers_alone_is_no_postmaster(text: str, pid: int | None) -> None:
    """It stands there as a negative number; and the file may be read before it is whole."""
    assert postmaster_in(text) == pid
