"""Claims about what vertical-vs-horizontal measures on machines of different size (pure)."""

from __future__ import annotations

import pytest

from month1_caching_gateway.experiments.vertical_vs_horizontal import Setup, setups_for


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("quick", [True, False])
def test_every_machine_has_both_directions_and_the_control(cores: int, quick: bool) -> None:
    """One process on each size, as many processes as cores, two on one; nobody gets more cores
    than there are; nothing is measured twice."""
    setups = setups_for(cores, quick=quick)
    assert len(setups) == len(set(setups))
    assert {Setup(1, 1), Setup(2, 1)} <= set(setups)
    assert all(1 <= setup.cores <= cores for setup in setups)
    assert max(setup.processes for setup in setups) > 1
    if cores > 1:
        assert {Setup(1, 2), Setup(2, 2)} <= set(setups)
