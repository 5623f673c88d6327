"""Pure picks of a server: by turn, by weight, by load, by key."""

from scalelab.balancing.key_picks import jump_pick, rendezvous_pick
from scalelab.balancing.picks import (
    Backend,
    Candidate,
    RandomBelow,
    least_connections,
    round_robin,
    two_choices,
)
from scalelab.balancing.ring_pick import ring_pick
from scalelab.balancing.weighted_round_robin import weighted_round_robin

__all__ = [
    "Backend",
    "Candidate",
    "RandomBelow",
    "jump_pick",
    "least_connections",
    "rendezvous_pick",
    "ring_pick",
    "round_robin",
    "two_choices",
    "weighted_round_robin",
]
