"""What the processes of the background jobs are told, natively."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from month3_messaging.containers import container_addresses
from month3_messaging.jobs.broker import BrokerSettings
from month3_messaging.jobs.intake import GROUP
from month3_messaging.jobs.mail_sink import MailSinkSettings
from month3_messaging.jobs.service import IntakeSettings
from month3_messaging.jobs.worker import WorkerSettings
from month3_messaging.orders import ORDERS_TOPIC
from month3_messaging.stack import services_of
from month3_messaging.topology import (
    CHOICES,
    INVOICES_READ,
    INVOICING,
    INVOICING_PORTS,
    SERVICES,
    Addresses,
    Invoicing,
    environment,
)
from tests.fixtures.container_files import check_variables

SETTINGS: dict[str, type[BaseSettings]] = {
    "jobs": IntakeSettings,
    "jobs-worker": WorkerSettings,
    "mail": MailSinkSettings,
}


@pytest.fixture
def addresses(tmp_path: Path) -> Addresses:
    without = container_addresses(tmp_path)
    return replace(
        without,
        ports={**without.ports, **INVOICING_PORTS},
        dsns={**without.dsns, "jobs": "postgresql://jobs@127.0.0.1/jobs"},
        invoicing=Invoicing("redis://127.0.0.1:6385/0", tmp_path / "mails"),
    )


@pytest.mark.parametrize("name", list(INVOICING))
def test_a_process_of_the_jobs_is_told_what_it_reads(
    name: str, addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valid settings, no variable that nobody reads, the port of the table."""
    told = environment(name, addresses)
    broker = {key: value for key, value in told.items() if key.startswith("JOBS_BROKER_")}
    assert bool(broker) == (name != "mail")
    if broker:
        check_variables(BrokerSettings, broker, monkeypatch)
    own = {key: value for key, value in told.items() if key not in broker}
    assert check_variables(SETTINGS[name], own, monkeypatch)["port"] == INVOICING_PORTS[name]


def test_the_desk_keeps_the_letters_of_the_jobs_where_there_are_jobs(addresses: Addresses) -> None:
    """Their group is a reader of the orders' events."""
    assert (ORDERS_TOPIC,) == INVOICES_READ
    assert f'"{GROUP}"' in environment("desk", addresses)["DESK_SOURCES"]
    assert GROUP not in environment("desk", replace(addresses, invoicing=None))["DESK_SOURCES"]


def test_without_their_packages_no_process_of_the_jobs_is_started(addresses: Addresses) -> None:
    """And with them, all."""
    with_jobs = {spec.name for spec in services_of(addresses, {})}
    assert with_jobs == {*SERVICES, *INVOICING}
    without = services_of(replace(addresses, invoicing=None), {})
    assert {spec.name for spec in without} == set(SERVICES)


def test_a_choice_reaches_its_process_and_no_other(addresses: Addresses) -> None:
    """What is chosen wins; a variable that is no choice goes nowhere."""
    chosen = {name: "x" for names in CHOICES.values() for name in names} | {"ORDERS_PORT": "1"}
    for spec in services_of(addresses, chosen):
        expected = dict.fromkeys(CHOICES.get(spec.name, ()), "x")
        assert spec.env == environment(spec.name, addresses) | expected
