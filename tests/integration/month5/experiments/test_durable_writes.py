"""The experiment durable-writes: which deaths take acknowledged writes, and who shares a sync."""

from __future__ import annotations

from pathlib import Path

import pytest

from month5_kvstore.experiments.durable_writes import CARES, Care, die, syncs_a_write


@pytest.mark.parametrize("care", CARES, ids=lambda care: care.name)
def test_a_power_cut_takes_acknowledged_writes_only_where_a_sync_was_left_out(care: Care) -> None:
    died = die(care, 40, seed=1, power=True)
    assert died.acknowledged > 40
    assert (died.lost > 0) is not (care.files and care.names)


@pytest.mark.parametrize("care", CARES, ids=lambda care: care.name)
def test_a_kill_takes_none(care: Care) -> None:
    died = die(care, 40, seed=1, power=False)
    assert died.acknowledged > 40
    assert (died.lost, died.closed) == (0, 0)


async def test_one_caller_pays_a_sync_for_each_write(tmp_path: Path) -> None:
    assert await syncs_a_write(tmp_path / "log", 1, 20) == 1


async def test_sixteen_callers_share_syncs(tmp_path: Path) -> None:
    """At best all share each; never one a write."""
    assert 1 / 16 <= await syncs_a_write(tmp_path / "log", 16, 160) <= 1 / 2
