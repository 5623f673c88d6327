"""The experiment linearizable-reads: by hand for every way to read, and on three real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from month5_kvstore.experiments.linearizable_reads import (
    MANNERS,
    NAIVE,
    Manner,
    depose,
    try_out,
)
from month5_kvstore.experiments.read_trials import Trouble, messages_a_read
from month5_kvstore.raft import Settings
from scalelab.lab.runtime import Runtime

UNSAFE = {"leader's own copy", "leader's own copy, quorum check", "a follower's copy"}


@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.name)
def test_only_unconfirmed_reads_and_leases_with_bad_clocks_are_stale(manner: Manner) -> None:
    """The count of stale answers and the checker agree about every manner."""
    counted = try_out(manner, 4, seed=1)
    is_unsafe = manner.name in UNSAFE or (
        manner.settings.lease_reads and manner.trouble != Trouble()
    )
    assert counted.answered > 0
    assert (counted.stale > 0) is is_unsafe
    assert counted.refuted == counted.stale_trials


def test_every_deposed_leader_of_textbook_raft_shows_its_old_copy() -> None:
    counted = try_out(NAIVE, 4, seed=2)
    assert counted.stale_trials == 4


def test_reads_that_are_asked_together_share_one_round() -> None:
    assert messages_a_read(5, 1, Settings()) == 8
    assert messages_a_read(5, 16, Settings()) == 0.5
    assert messages_a_read(5, 16, Settings(lease_reads=True)) == 0


@pytest.mark.timeout(300)
async def test_a_real_deposed_leader_shows_its_old_copy_and_confirms_no_read(
    server_root: Path,
) -> None:
    with Runtime(server_root / "linearizable-reads", private=True, is_disposable=True) as runtime:
        deposed = await depose(runtime, 5, seed=1)
    assert (deposed.copy_stale, deposed.refused, deposed.fresh) == (5, 5, 5)
    assert deposed.refuted
    assert deposed.kept
