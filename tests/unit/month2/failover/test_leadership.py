"""Whom a client believes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month2_databases.failover import Claim, choose, must_confirm

claims = st.lists(
    st.builds(Claim, node=st.sampled_from(["a", "b", "c"]), timeline=st.integers(1, 6)),
    max_size=4,
)


@given(claims=claims, fence=st.integers(0, 7))
def test_nobody_below_the_fence_is_chosen_and_nobody_beside_an_equal(
    claims: list[Claim], fence: int
) -> None:
    """I1 and I2 for any claims."""
    chosen = choose(claims, fence=fence)
    credible = sorted((c.timeline for c in claims if c.timeline >= fence), reverse=True)
    alone = len(credible) == 1 or (len(credible) > 1 and credible[0] > credible[1])
    assert (chosen is not None) == alone
    if chosen is not None:
        assert chosen.timeline == credible[0] >= fence


def test_an_old_primary_that_wakes_up_loses_to_the_promoted_one() -> None:
    """Both say that they lead; the newer timeline is the one that was promoted."""
    assert choose([Claim("old", 4), Claim("new", 5)], fence=0) == Claim("new", 5)


def test_an_old_primary_alone_is_refused_by_a_client_that_saw_the_promotion() -> None:
    """The fence outlives the silence of the new primary."""
    assert choose([Claim("old", 4)], fence=5) is None


def test_a_leader_is_believed_for_a_while_and_then_asked_again() -> None:
    """I3: on the very second it is asked."""
    assert not must_confirm(confirmed_at_s=10.0, now_s=10.9, confirm_every_s=1.0)
    assert must_confirm(confirmed_at_s=10.0, now_s=11.0, confirm_every_s=1.0)
