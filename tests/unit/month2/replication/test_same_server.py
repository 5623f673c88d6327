"""When a polled position may be believed of another connection."""

from __future__ import annotations

import pytest

from month2_databases.replication.consistency_token import ReplayPosition
from month2_databases.replication.replay_positions import Standing
from month2_databases.replication.same_server import Life, speaks_for


@pytest.mark.parametrize(
    ("asked_at_s", "started_s", "believed"),
    [
        (10.1, 5.0, True),
        (10.0, 5.0, False),  # the connection may be younger: a restart may lie between
        (9.9, 5.0, False),
        (10.1, 5.1, False),  # another postmaster behind the same name
    ],
)
def test_a_poll_speaks_for_an_older_connection_of_the_same_postmaster(
    asked_at_s: float, started_s: float, *, believed: bool
) -> None:
    """And for no other."""
    polled = Standing(ReplayPosition(1, 100), asked_at_s, started_s)
    assert speaks_for(polled, Life(since_s=10.0, started_s=5.0)) is believed
