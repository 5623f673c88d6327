"""Lines, prices and totals."""

from __future__ import annotations

import pytest

from month3_messaging.orders import Price
from month3_messaging.orders.models import LineIn, price_lines
from scalelab.errors import InvalidInput

WANTED = [LineIn(product_id="p-1", quantity=2), LineIn(product_id="p-2", quantity=3)]


def test_the_total_is_the_sum_of_quantity_times_price() -> None:
    """In minor units, without rounding."""
    lines, total_minor, currency = price_lines(
        WANTED, {"p-1": Price(1250, "EUR"), "p-2": Price(1, "EUR")}
    )
    assert [line.unit_minor for line in lines] == [1250, 1]
    assert (total_minor, currency) == (2503, "EUR")


@pytest.mark.parametrize(
    ("prices", "code"),
    [
        ({"p-1": Price(1, "EUR")}, "unknown_product"),
        ({"p-1": Price(1, "EUR"), "p-2": Price(1, "USD")}, "mixed_currencies"),
        ({"p-1": Price(10**12, "EUR"), "p-2": Price(1, "EUR")}, "total_too_large"),
    ],
)
def test_what_cannot_be_priced_is_refused(prices: dict[str, Price], code: str) -> None:
    """Each with a code of its own."""
    with pytest.raises(InvalidInput) as refused:
        price_lines(WANTED, prices)
    assert refused.value.stable_code == code
