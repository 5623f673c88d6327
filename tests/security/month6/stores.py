"""Everything the shop has stored, as digests: equal digests, nothing has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Self

import psycopg
from psycopg import sql

from month6_capstone.stack import Shop
from tests.e2e.customer import settled_report


class Stores:
    """Connections to every database of a shop, kept open. Context manager."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._open: dict[str, psycopg.Connection] = {}

    def __enter__(self) -> Self:
        at = self._shop.addresses
        dsns = {**at.dsns, **{shard.name: shard.primary_dsn for shard in at.shards}}
        for name, dsn in dsns.items():
            self._open[name] = psycopg.connect(dsn, autocommit=True)
        return self

    def __exit__(self, *_error: object) -> None:
        for connection in self._open.values():
            connection.close()

    def at_rest(self) -> Mapping[str, str]:
        """The digests once nothing is on its way any more and the books balance."""
        report = settled_report(self._shop)
        assert report.balanced, report.violations
        return self.digests()

    def digests(self) -> Mapping[str, str]:
        """Rows and digest of every table of every database, and of the provider's book."""
        found: dict[str, str] = {}
        for name, connection in self._open.items():
            found |= _tables(name, connection)
        path = self._shop.addresses.book_path
        book = path.read_bytes() if path.exists() else b""
        found["book"] = f"{book.count(bytes([10]))} {hashlib.sha256(book).hexdigest()}"
        return found


def _tables(store: str, connection: psycopg.Connection) -> dict[str, str]:
    # Not those of whoever moves slots: the services' role may not even read them.
    names = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        " AND has_table_privilege(format('%I.%I', schemaname, tablename), 'SELECT')"
    )
    each = [
        sql.SQL(
            "SELECT {}::text, count(*) || ' ' || coalesce(md5(string_agg(one::text, ';'"
            " ORDER BY one::text)), '-') FROM {} AS one"
        ).format(sql.Literal(f"{store}.{name}"), sql.Identifier(name))
        for (name,) in names.fetchall()
    ]
    return dict(connection.execute(sql.SQL(" UNION ALL ").join(each)).fetchall())
