"""The experiment cap-partition, with few seats, on three real nodes and three replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from month5_kvstore.experiments.cap_partition import LAST_WRITE, ONE_LOG, compare, judged
from scalelab.lab.runtime import Runtime


@pytest.mark.timeout(300)
async def test_one_log_refuses_and_last_write_wins_sells_twice(server_root: Path) -> None:
    """Every claim, and that somebody was really asked."""
    with Runtime(server_root / "cap-partition", private=True, is_disposable=True) as runtime:
        stories = await compare(runtime, 4, 1, lambda _note: None)
    assert [claim for claim in judged(stories).shape if not claim.holds] == []
    assert stories[ONE_LOG].refused_looks == stories[LAST_WRITE].lost == 4
