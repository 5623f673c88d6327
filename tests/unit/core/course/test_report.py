"""The report shows what was measured, says what was not, and trusts no text it did not write."""

from __future__ import annotations

import pytest

from scalelab.lab.course.report import Finding, render

RESULT = {
    "varied": "the store",
    "fixed": "the load",
    "seed": 7,
    "arms": [
        {"name": "plain", "role": "control", "figures": {"calls": 40}},
        {"name": "clever", "role": "treatment", "figures": {"calls": 1, "p99_ms": 1.23456}},
    ],
    "shape": [{"claim": "clever asks once", "holds": True, "measured": "1 of 40"}],
    "notes": ["two cores"],
}


def finding(slug: str = "one", **changes: object) -> Finding:
    """A finding that held."""
    result = {**RESULT, **changes}
    return Finding("month1", slug, "Who asks?", result, "<svg id='drawn'></svg>", "today")


def test_arms_claims_and_the_plot_stand_on_the_page() -> None:
    """A figure that an arm does not have is a dash, not a zero."""
    page = render([finding()], [], style="")
    for text in ("Who asks?", "clever asks once", "1 of 40", "id='drawn'", "1.235", "two cores"):
        assert text in page
    assert "<td>40</td><td>–</td>" in page


def test_what_was_never_run_is_listed_with_its_command() -> None:
    """And it is not counted among the runs."""
    absent = Finding("month1", "two", "And then?", None, "", "")
    page = render([finding(), absent], [], style="")
    assert "1 of 2 experiments" in page
    assert "./lab experiment two --quick" in page


def test_a_claim_that_does_not_hold_is_counted_and_shown() -> None:
    """One broken claim breaks the shape."""
    broken = [*RESULT["shape"], {"claim": "twice", "holds": False, "measured": "3"}]
    page = render([finding(shape=broken)], [], style="")
    assert "the shape of 0 held" in page
    assert "does not hold" in page


def test_text_from_results_cannot_become_markup() -> None:
    """Names of arms may hold anything."""
    arms = [{"name": "<script>x</script>", "role": "control", "figures": {}}]
    assert "<script>" not in render([finding(arms=arms)], [], style="")


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (
            {"peer": "nginx", "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.6, "gate": 0.4},
            "0.5 (0.4 … 0.6)",
        ),
        ({"value": 12.0, "limit": None}, "<td>12</td><td>–</td>"),
    ],
)
def test_benches_show_ratios_and_bare_values(figure: dict[str, object], shown: str) -> None:
    """With and without a peer; machine facts beside them."""
    whole = {"bench": "b", "subject": "s", "unit": "u", "sense": "at_least", "holds": True}
    page = render([], [{"machine": {"cores": 2}, "figures": [whole | figure]}], style="")
    assert shown in page
    assert "cores 2" in page
