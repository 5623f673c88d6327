"""A DSN with every host."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from month2_databases.failover import any_primary
from scalelab.errors import InvalidInput


def test_libpq_reads_back_every_host_and_looks_for_one_that_writes() -> None:
    """Passwords with reserved characters survive."""
    dsn = any_primary(
        [("127.0.0.1", 5001), ("127.0.0.1", 5002)], database="or/ders", role="o", password="p@:/ ?"
    )
    read = conninfo_to_dict(dsn)
    assert (read["host"], read["port"]) == ("127.0.0.1,127.0.0.1", "5001,5002")
    assert (read["dbname"], read["user"], read["password"]) == ("or/ders", "o", "p@:/ ?")
    assert read["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(("hosts", "timeout_s"), [([], 2), ([("127.0.0.1", 1)], 1)])
def test_no_host_or_a_timeout_that_libpq_does_not_know_is_refused(
    hosts: list[tuple[str, int]], timeout_s: int
) -> None:
    """Bad input is an error of ours, not libpq's."""
    with pytest.raises(InvalidInput):
        any_primary(hosts, database="d", role="r", password="p", connect_timeout_s=timeout_s)
