"""Golden scripts: stories told by hand, one claim a file, held word by word.

`SCALELAB_REWRITE_GOLDEN=1` writes what happens now; the difference is to be reviewed like code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from month5_kvstore.simulation import play
from month5_kvstore.simulation.invariants import READ_INDEX
from month5_kvstore.simulation.zoo import SCRIPTS, script
from scalelab.errors import InvalidInput

GOLDEN = Path(__file__).with_name("golden")
NAMES = sorted(file.stem for file in SCRIPTS.glob("*.txt"))


@pytest.mark.parametrize("name", NAMES)
def test_the_story_goes_as_written(name: str) -> None:
    """Every message, every answer, every log."""
    told = play(script(name))
    text = "\n".join(told.lines) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("SCALELAB_REWRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_golden_text_has_its_script() -> None:
    """None is left of a script that is gone."""
    assert sorted(file.stem for file in GOLDEN.glob("*.txt")) == NAMES


def test_a_lease_is_only_as_good_as_the_clocks() -> None:
    """Thesis 6.4.1: a leader whose clock stands still believes in a lease that is over. That is
    why leases are off by default."""
    uneven = script("a_lease_counts_from_the_question").replace("tick 1 9", "deliver 3 1")
    assert play(uneven).rule == READ_INDEX


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("juggle 1", "no such command"),
        ("group 3 colour=on", "no such setting"),
        ("group three", "cannot be understood"),
        ("group 3\ncrash 1\ncampaign 1", "is down"),
        ("group 3\nsend 1 2 vote t1 0/0 0", "cannot send"),
        ("put 1 5", "cannot be understood"),
    ],
)
def test_a_line_that_means_nothing_is_refused(text: str, complaint: str) -> None:
    """A script with a slip in it must not pass as one that proves something."""
    with pytest.raises(InvalidInput, match=complaint):
        play(text)
