"""The experiment raft-commit-cost: the formulas hold to the last message and sync."""

from __future__ import annotations

import pytest

from month5_kvstore.experiments.raft_commit_cost import CommitCost, commit_cost, stream_cost


@pytest.mark.parametrize("nodes", [1, 3, 5])
@pytest.mark.parametrize("writes", [1, 64])
def test_a_batch_costs_a_round_trip_to_every_follower_and_a_sync_on_every_node(
    nodes: int, writes: int
) -> None:
    """However many writes are in it; the news costs as much again."""
    round_trips = 2 * (nodes - 1)
    legs = 0 if nodes == 1 else 2
    assert commit_cost(nodes, writes) == CommitCost(writes, round_trips, nodes, legs, round_trips)


def test_a_stream_pays_for_no_news() -> None:
    cost = stream_cost(5, 4, legs=20)
    assert cost.writes == 80
    assert (cost.messages, cost.syncs) == (20 * 8, 20 * 5)
