"""The experiment raft-failover-time: by hand, and one real leader killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from month5_kvstore.experiments.raft_failover_time import (
    TICKS,
    fail_over,
    foreseen,
    kill_in_turn,
)
from scalelab.lab.runtime import Runtime


def test_a_failover_takes_the_lowest_draw_of_the_followers() -> None:
    """Within a tenth of what is foreseen, and never twice the longest time-out."""
    failovers = fail_over(5, TICKS, 60, seed=1)
    assert failovers.quantile(0.5) == pytest.approx(foreseen(5, 0.5), rel=0.1)
    assert failovers.took[-1] <= 2


def test_a_narrow_window_splits_votes() -> None:
    assert fail_over(5, 2, 30, seed=1).split > 10


@pytest.mark.timeout(300)
async def test_every_group_that_lost_its_leader_has_another_one(server_root: Path) -> None:
    with Runtime(server_root / "failover", private=True, is_disposable=True) as runtime:
        kills = await kill_in_turn(runtime, 1, lambda _note: None)
    assert len(kills.took) == kills.led
    assert kills.same_term == 0
