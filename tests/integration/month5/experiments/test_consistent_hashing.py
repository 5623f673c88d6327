"""The experiment consistent-hashing, with fewer keys."""

from __future__ import annotations

from month5_kvstore.experiments.consistent_hashing import (
    MODULO,
    WAYS,
    joins,
    judged,
    leave,
    replicas,
)


def test_only_modulo_moves_keys_between_nodes_that_stay() -> None:
    """Every claim of the experiment, and that modulo is the one control."""
    keys = [f"key-{number}" for number in range(4_000)]
    moves = {way.name: joins(way, keys) for way in WAYS}
    gone = {way.name: leave(way, keys) for way in WAYS}
    shape = judged(moves, gone, replicas()).shape
    assert [claim for claim in shape if not claim.holds] == []
    assert [way for way in WAYS if gone[way.name].for_nothing] == [MODULO]
