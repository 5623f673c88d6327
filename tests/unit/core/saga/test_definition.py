"""What a table must satisfy before it is a saga."""

from __future__ import annotations

import pytest

from scalelab.saga import DEADLINE, Action, Kind, Rule, SagaDefinition, Step, sequence

END = Step(kind=Kind.END)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"end": END}, "start"),
        ({"start": Step({"a": Rule("nowhere")}), "end": END}, "not a step"),
        (
            {"start": Step({"a": Rule("end")}), "end": Step({"b": Rule("end")}, Kind.END)},
            "end step",
        ),
        ({"start": Step({"a": Rule("end")}), "end": END, "island": END}, "no way leads to"),
        ({"start": Step({"a": Rule("start"), "b": Rule("end")}), "end": Step()}, "to an end"),
        ({"start": Step({"a": Rule("end")}, deadline_s=1.0), "end": END}, "deadline"),
        (
            {
                "start": Step({"a": Rule("undo"), "b": Rule("end")}),
                "undo": Step({"c": Rule("start"), "d": Rule("end")}, Kind.COMPENSATING),
                "end": END,
            },
            "back to",
        ),
    ],
)
def test_a_broken_table_is_refused(steps: dict[str, Step], said: str) -> None:
    """D1 to D5: each broken rule is named when the definition is built."""
    with pytest.raises(ValueError, match=said):
        SagaDefinition("broken", "start", steps)


def test_a_sequence_is_a_valid_table() -> None:
    """The generator's output passes the same checks and knows all facts of its actions."""
    action = Action("do", "done", "refused", "undo", "undone")
    definition = sequence("one", [action], deadline_s=5.0)
    assert definition.facts == {"done", "refused", "undone"}
    assert definition.deadline_s("doing_0") == 5.0
    assert DEADLINE in definition.steps["undoing_0"].on


def test_a_sequence_without_actions_is_refused() -> None:
    """Nothing to do is not a saga."""
    with pytest.raises(ValueError, match="no actions"):
        sequence("none", [], deadline_s=1.0)
