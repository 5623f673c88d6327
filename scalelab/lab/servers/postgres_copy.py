"""A copy of a PostgreSQL server in a data folder that something else has filled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scalelab.errors import InvalidInput
from scalelab.lab.servers.postgres import Postgres
from scalelab.lab.servers.processes import Launch


class PostgresCopy(Postgres):
    """A server on a restored data folder: passwords of its original, settings of its own.

    It makes no data folder: `prepare` raises InvalidInput if there is none.
    """

    def __init__(
        self, name: str, original: Postgres, data: Path, settings: Mapping[str, str]
    ) -> None:
        super().__init__(name, data_dir=data, settings=settings)
        self.original = original

    @property
    def cluster(self) -> str:
        """The original's: its roles and their passwords were restored with the data."""
        return self.original.cluster

    def prepare(self) -> Launch:
        if not (self.data_dir / "PG_VERSION").is_file():
            raise InvalidInput(f"{self.data_dir} is no data folder of PostgreSQL", field="data")
        return super().prepare()
