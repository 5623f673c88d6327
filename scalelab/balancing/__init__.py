"""Pure picks of a server: round robin, least connections, two choices."""

from scalelab.balancing.picks import (
    Backend,
    RandomBelow,
    least_connections,
    round_robin,
    two_choices,
)

__all__ = ["Backend", "RandomBelow", "least_connections", "round_robin", "two_choices"]
