"""One running shop for the end-to-end tests of a session, as separate processes, privately."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from month6_capstone.stack import Seed, Shop, start_shop
from scalelab.lab.runtime import Runtime
from tests.e2e.customer import Customer

PRODUCTS = 40
CUSTOMERS = 8


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop with a small catalogue; traces go to a file per process."""
    root = tmp_path_factory.mktemp("shop")
    traces = root / "traces"
    traces.mkdir()
    with Runtime(root, private=True) as runtime:
        yield start_shop(
            runtime,
            seed=Seed(products=PRODUCTS, users=CUSTOMERS, stock=1000),
            trace_export=f"file:{traces}/{{process}}.jsonl",
        )


@pytest.fixture
def customer(shop: Shop) -> Customer:
    """A seeded customer who is signed in."""
    return Customer.signed_in(shop, 1)


@pytest.fixture
def other_customer(shop: Shop) -> Customer:
    """Somebody else."""
    return Customer.signed_in(shop, 2)
