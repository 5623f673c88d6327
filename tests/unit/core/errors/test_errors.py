"""The error tree's promises to programs that match on it."""

from __future__ import annotations

import pytest

from scalelab import errors


def tree(kind: type[errors.ScalelabError]) -> list[type[errors.ScalelabError]]:
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return [kind, *(found for sub in below for found in tree(sub))]


ALL = tree(errors.ScalelabError)


def test_every_class_has_a_code_of_its_own() -> None:
    """Two classes with one code could not be told apart across a network."""
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_instance_may_narrow_its_code_but_not_its_meaning(
    kind: type[errors.ScalelabError],
) -> None:
    """The narrower code is what programs see; retryable stays the class's."""
    assert kind("said").stable_code == kind.code
    assert kind("said", code="narrower").stable_code == "narrower"
    assert str(kind("said")) == "said"


def test_only_errors_that_may_pass_by_themselves_are_retryable() -> None:
    """Retrying what was refused for good only adds load."""
    retryable = {kind.__name__ for kind in ALL if kind.retryable}
    assert retryable == {
        "BreakerOpen",
        "DeadlineExceeded",
        "OutcomeUnknown",
        "Overloaded",
        "RateLimited",
        "Retryable",
        "Unavailable",
    }


def test_unknown_is_not_unavailable() -> None:
    """Catching "not done" must never catch "perhaps done"."""
    assert not issubclass(errors.OutcomeUnknown, errors.Unavailable)


def test_a_broken_invariant_is_not_caught_as_an_error_of_the_tree() -> None:
    """It stops the component; a retry loop that catches the tree does not see it."""
    assert not issubclass(errors.InvariantBroken, errors.ScalelabError)
