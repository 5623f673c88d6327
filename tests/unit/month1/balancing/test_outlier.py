"""Outlier ejection in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.balancing import OutlierPolicy, Track, eject
from scalelab.errors import InvalidInput

POLICY = OutlierPolicy(consecutive=3, base_ejection_s=5.0, max_ejection_s=20.0)
ENDPOINTS = 5


def failing(track: Track, tracks: list[Track], times: int, *, now_s: float) -> bool:
    """Whether `times` failures in a row sent it away."""
    away = False
    for _ in range(times):
        track.failed()
        away = eject(track, tracks, POLICY, now_s=now_s)
    return away


events = st.lists(
    st.tuples(st.integers(0, ENDPOINTS - 1), st.booleans(), st.floats(0, 3)), max_size=200
)


@given(events, st.floats(0, 1))
def test_never_more_than_the_stated_share_is_away(
    events: list[tuple[int, bool, float]], share: float
) -> None:
    """I1 for any outcomes at any pace, even if all fail alike."""
    policy = OutlierPolicy(consecutive=1, max_ejected_share=share, min_calls=4, window_s=4.0)
    tracks = [Track() for _ in range(ENDPOINTS)]
    now_s = 0.0
    for index, good, gap_s in events:
        now_s += gap_s
        for track in tracks:
            track.tick(policy, now_s=now_s)
        if good:
            tracks[index].succeeded()
        else:
            tracks[index].failed()
            eject(tracks[index], tracks, policy, now_s=now_s)
        away = sum(track.ejected_until_s is not None for track in tracks)
        assert away <= share * ENDPOINTS + 1e-6


def test_failures_in_a_row_send_it_away_and_a_success_between_does_not() -> None:
    """I3."""
    tracks = [Track(), Track()]
    assert not failing(tracks[0], tracks, 2, now_s=0.0)
    tracks[0].succeeded()
    assert not failing(tracks[0], tracks, 2, now_s=0.0)
    assert failing(tracks[0], tracks, 1, now_s=0.0)
    assert tracks[0].ejected_until_s == 5.0


def test_a_flaky_one_goes_by_its_share_of_failures() -> None:
    """Every other call fails: never two in a row, and half of the calls."""
    policy = OutlierPolicy(consecutive=2, failure_share=0.5, min_calls=10)
    tracks = [Track(), Track()]
    for _ in range(4):
        tracks[0].succeeded()
        tracks[0].failed()
        assert not eject(tracks[0], tracks, policy, now_s=0.0)
    tracks[0].succeeded()
    tracks[0].failed()
    assert eject(tracks[0], tracks, policy, now_s=0.0)


def test_a_lone_endpoint_stays() -> None:
    """There is nobody to take its load, whatever the share says."""
    policy = OutlierPolicy(consecutive=1, max_ejected_share=1.0)
    alone = Track()
    alone.failed()
    assert not eject(alone, [alone], policy, now_s=0.0)


def test_each_absence_is_longer_until_the_limit_and_probation_takes_one_failure() -> None:
    """I2: 5, 10, 20, 20 s; from the second on a single failure is enough."""
    tracks = [Track(), Track()]
    assert failing(tracks[0], tracks, 3, now_s=0.0)
    now_s = 0.0
    for length_s in (5.0, 10.0, 20.0, 20.0):
        until_s = now_s + length_s
        assert tracks[0].ejected_until_s == until_s
        assert not tracks[0].tick(POLICY, now_s=until_s - 0.1)
        assert tracks[0].tick(POLICY, now_s=until_s)
        now_s = until_s
        assert failing(tracks[0], tracks, 1, now_s=now_s)


def test_a_success_ends_probation_and_a_quiet_time_forgives() -> None:
    """Back to three failures, and to the first length."""
    tracks = [Track(), Track()]
    failing(tracks[0], tracks, 3, now_s=0.0)
    assert tracks[0].tick(POLICY, now_s=5.0)
    tracks[0].succeeded()
    assert not failing(tracks[0], tracks, 1, now_s=5.0)
    tracks[0].succeeded()
    assert not tracks[0].tick(POLICY, now_s=10.0)
    assert tracks[0].ejections == 0
    assert failing(tracks[0], tracks, 3, now_s=10.0)
    assert tracks[0].ejected_until_s == 15.0


def test_old_failures_are_forgotten_with_the_window() -> None:
    """Nineteen failures long ago and one now are no share of twenty calls."""
    policy = OutlierPolicy(consecutive=99, min_calls=20, window_s=10.0)
    tracks = [Track(), Track()]
    for track in tracks:
        track.tick(policy, now_s=0.0)
    for _ in range(19):
        tracks[0].failed()
    for now_s in (5.0, 10.0):
        tracks[0].tick(policy, now_s=now_s)
    tracks[0].failed()
    assert not eject(tracks[0], tracks, policy, now_s=10.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"consecutive": 0},
        {"failure_share": 0.0},
        {"base_ejection_s": 9.0, "max_ejection_s": 1.0},
        {"max_ejected_share": 1.5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """Each with its field."""
    with pytest.raises(InvalidInput):
        OutlierPolicy(**wrong)  # type: ignore[arg-type]
