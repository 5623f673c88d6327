"""Waves: the order in which a batch may be sent."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.outbox.waves import Lane, cut_into_waves, lane_of, sendable


@dataclass(frozen=True)
class Row:
    topic: str
    key: str


rows_of_few_lanes = st.lists(
    st.builds(Row, st.sampled_from(["a", "b"]), st.sampled_from(["k", "l", "m"])), max_size=40
)


@given(rows_of_few_lanes)
def test_every_row_is_in_one_wave_after_its_predecessor(rows: list[Row]) -> None:
    """W2: the waves partition the batch, and a lane's rows ascend from wave to wave."""
    waves = cut_into_waves(rows)
    assert sorted(position for wave in waves for position in wave) == list(range(len(rows)))
    for wave in waves:
        lanes = [lane_of(rows[position]) for position in wave]
        assert len(set(lanes)) == len(lanes), "one row of a lane per wave"
    by_lane: defaultdict[Lane, list[int]] = defaultdict(list)
    for wave in waves:
        for position in wave:
            by_lane[lane_of(rows[position])].append(position)
    for positions in by_lane.values():
        assert positions == sorted(positions)


@given(rows_of_few_lanes, st.sets(st.integers(0, 39)))
def test_what_is_acknowledged_of_a_lane_is_a_prefix(rows: list[Row], failing: set[int]) -> None:
    """W1 and W3: nothing is sent after a failure in its lane, other lanes go on."""
    blocked: set[Lane] = set()
    acknowledged: defaultdict[Lane, list[int]] = defaultdict(list)
    for wave in cut_into_waves(rows):
        for position in sendable(wave, rows, blocked):
            if position in failing:
                blocked.add(lane_of(rows[position]))
            else:
                acknowledged[lane_of(rows[position])].append(position)
    for lane in {lane_of(row) for row in rows}:
        members = [position for position, row in enumerate(rows) if lane_of(row) == lane]
        first_failure = next((n for n, p in enumerate(members) if p in failing), len(members))
        assert acknowledged[lane] == members[:first_failure]
