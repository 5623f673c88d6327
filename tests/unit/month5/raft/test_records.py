"""What stands on disk is read back as it was, or refused."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import Configuration
from scalelab.errors import CorruptData

JOINT = Configuration(voters=(1, 2, 4), outgoing=(1, 2, 3), learners=(3, 9))


@pytest.mark.parametrize(
    "configuration", [Configuration((1,)), JOINT, Configuration((2,), (), (3,))]
)
def test_a_configuration_is_read_back_as_it_was_written(configuration: Configuration) -> None:
    """Every list comes back, empty ones too."""
    assert Configuration.decode(configuration.encode()) == configuration


@pytest.mark.parametrize("data", [b"", b"1,2", b"1;2;3;4", b"one;;", b"1 ;;", b"01;;", b"\xff;;"])
def test_bytes_that_are_no_configuration_are_refused(data: bytes) -> None:
    """A damaged entry stops the node; it never becomes another membership."""
    with pytest.raises(CorruptData):
        Configuration.decode(data)


def test_a_joint_configuration_counts_both_sides_and_replicates_to_all() -> None:
    """Old and new voters vote; learners only receive."""
    assert JOINT.joint
    assert JOINT.electorate == (1, 2, 3, 4)
    assert JOINT.members == (1, 2, 3, 4, 9)
