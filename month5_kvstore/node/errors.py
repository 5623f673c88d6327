"""What a node refuses beyond what its store does."""

from __future__ import annotations

from scalelab.errors import InvalidInput


class CrossGroup(InvalidInput):
    """Keys of several groups in one command: no group could carry it out whole."""

    code = "cross_group"


class WrongGroup(InvalidInput):
    """A lease or session of another group than the key's."""

    code = "wrong_group"
