"""The experiment `isolation-anomalies`: its matrix is exact, cell by cell."""

from __future__ import annotations

from month2_databases.experiments.isolation_anomalies import judge, measure
from month2_databases.experiments.isolation_histories import EXPECTED, LEVELS


async def test_each_level_lets_happen_what_the_documentation_says(database_dsn: str) -> None:
    """Seven anomalies at four levels, on real sessions; every claim of the experiment holds."""
    matrix = await measure(database_dsn)
    for level in LEVELS:
        assert {name for name, cell in matrix[level].items() if cell.happened} == EXPECTED[level]
    refused = {name for name, cell in matrix["SERIALIZABLE"].items() if cell.refused}
    assert refused == {"lost update", "write skew", "serialization anomaly"}
    assert all(claim.holds for claim in judge([matrix]).shape)
