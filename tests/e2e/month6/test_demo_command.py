"""`lab demo` and `lab verify` as a person or a program runs them: processes, exit codes, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from month6_capstone.stack import Shop
from month6_capstone.topology import SERVICES, SHARD_NAMES, TOPICS
from tests.e2e.customer import Customer, settled_report

PROJECT = Path(__file__).resolve().parents[3]
DEMO_WITHIN_S = 300.0

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended. left: processes it had started that still run."""

    code: int
    stdout: str
    stderr: str
    left: list[str]
    root: Path

    @property
    def document(self) -> dict[str, Any]:
        """What stands on standard output, all of it, as one JSON document."""
        return json.loads(self.stdout)


def lab(root: Path, *words: str) -> Finished:
    """Run the program in a folder of its own that holds the shop; watch whom it starts."""
    (root / "month6_capstone").symlink_to(PROJECT / "month6_capstone")
    command = [sys.executable, "-m", "scalelab", "--root", str(root), *words]
    out, err = root / "stdout", root / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL
        )
    started: dict[tuple[int, float], psutil.Process] = {}
    give_up_s = time.monotonic() + DEMO_WITHIN_S
    while process.poll() is None and time.monotonic() < give_up_s:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                started[child.pid, child.create_time()] = child
        time.sleep(0.2)
    process.kill()  # of no effect if it has ended
    code = process.wait()
    left = [repr(child) for child in started.values() if runs_still(child)]
    assert started, "nobody was watched"
    return Finished(code, out.read_text(), err.read_text(), left, root)


def runs_still(process: psutil.Process) -> bool:
    """Whether it is there; a zombie only waits for somebody to notice its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FORMS = {"services": (), "monolith": ("--monolith",)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """One run of the demo in each form, side by side, as two people would on one machine."""
    words = ["demo", "--once", "--json", "--seconds", "6", "--rate", "4"]
    with ThreadPoolExecutor(len(FORMS)) as pool:
        begun = {
            form: pool.submit(lab, tmp_path_factory.mktemp(f"demo-{form}"), *words, *more)
            for form, more in FORMS.items()
        }
    return {form: run.result() for form, run in begun.items()}


@pytest.fixture(params=FORMS)
def finished(request: pytest.FixtureRequest, runs: dict[str, Finished]) -> tuple[str, Finished]:
    """The run of each form."""
    return request.param, runs[request.param]


def test_the_demo_is_green_and_prints_one_document(finished: tuple[str, Finished]) -> None:
    """Exit code 0; standard output is the documented JSON and nothing else."""
    form, run = finished
    assert run.code == 0, run.stderr
    report = run.document
    assert report["books"]["balanced"] is True
    assert report["books"]["violations"] == []
    assert sum(report["books"]["checked"].values()) > 0
    assert (report["duplicates"], report["stuck"], report["stale_own_reads"]) == (0, 0, 0)
    assert report["first_order_s"] > 0
    assert report["orders"]["confirmed"] > 0
    assert set(report["orders"]) <= {"confirmed", "payment_failed", "refunded", "cancelled"}
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert report["orders_per_s"] > 0
    assert 0 < report["cache_hit_ratio"] <= 1
    assert report["seed"] == 1
    assert report["fault"]["kind"] == "SIGKILL"
    assert report["fault"]["target"] == ("monolith" if form == "monolith" else "orders-worker")
    assert report["fault"]["back_s"] > 0


def test_the_figures_agree_with_each_other(finished: tuple[str, Finished]) -> None:
    """Orders by state, rows by shard and accepted answers count the same orders; money adds up."""
    _, run = finished
    report = run.document
    assert set(report["rows_per_shard"]) == set(SHARD_NAMES)
    assert sum(report["rows_per_shard"].values()) == sum(report["orders"].values())
    assert set(report["events_per_topic"]) == set(TOPICS)
    assert report["events_per_topic"]["orders.order"] >= 2 * sum(report["orders"].values())
    reads = report["reads_per_replica"]
    assert {name.rpartition(".")[0] for name in reads} <= {*SHARD_NAMES, "none", "no_answer", ""}
    assert any(name.endswith(".replica") for name in reads)
    money = report["money"]
    assert money["captured"] - money["refunded"] == money["confirmed"] > 0


def test_memory_is_told_by_process(finished: tuple[str, Finished]) -> None:
    """Every process that runs is listed; in the monolith the shop's own are one."""
    form, run = finished
    by_process = run.document["memory_mib"]["by_process"]
    own = {"monolith"} if form == "monolith" else {*SERVICES, "gateway"}
    assert own | {"kafka", "redis", "shop-db", *SHARD_NAMES} <= set(by_process)
    assert ("monolith" in by_process) == (form == "monolith")
    assert all(mib > 0 for mib in by_process.values())
    assert run.document["memory_mib"]["total"] == pytest.approx(sum(by_process.values()), abs=1)


def test_the_demo_leaves_no_process_and_little_disk(finished: tuple[str, Finished]) -> None:
    """All servers have ended; the report and the client's log stay, the databases do not."""
    _, run = finished
    assert run.left == []
    [folder] = (run.root / ".lab" / "runs").iterdir()
    assert json.loads((folder / "report.json").read_text()) == run.document
    assert (folder / "client.jsonl").exists()
    assert not (folder / "data").exists()


@pytest.fixture(scope="module")
def quiet_shop(shop: Shop) -> Shop:
    """The running shop with something in its books, at rest."""
    customer = Customer.signed_in(shop, 1)
    placed = customer.place()
    assert placed.status_code == 202, placed.text
    customer.wait_for(placed.json()["order_id"], "confirmed")
    report = settled_report(shop)
    assert report.balanced, report.violations
    return shop


def verify(shop: Shop, *words: str) -> subprocess.CompletedProcess[str]:
    """`lab verify` on the running shop's folder."""
    command = [sys.executable, "-m", "scalelab", "verify", "--run", str(shop.runtime.root), *words]
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )


def test_verify_finds_a_quiet_shop_balanced(quiet_shop: Shop) -> None:
    """Exit code 0, one document, and rules that looked at something."""
    done = verify(quiet_shop, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["balanced"] is True
    assert document["violations"] == []
    assert document["checked"]["charged_once"] > 0


@contextmanager
def second_charge(shop: Shop) -> Iterator[None]:
    """The provider's book says that an order was charged once more."""
    path = shop.addresses.book_path
    size = path.stat().st_size
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    again = next(line for line in lines if line["kind"] == "charge") | {"seq": len(lines) + 1}
    with path.open("a") as book:
        book.write(json.dumps(again) + "\n")
    try:
        yield
    finally:
        os.truncate(path, size)


@contextmanager
def sold_twice(shop: Shop) -> Iterator[None]:
    """A piece of stock is reserved for nobody."""
    move = (
        "UPDATE stock SET available = available - %(n)s, reserved = reserved + %(n)s"
        " WHERE product_id = 'p-0001'"
    )
    with psycopg.connect(shop.addresses.dsns["inventory"], autocommit=True) as connection:
        connection.execute(move, {"n": 1})
        try:
            yield
        finally:
            connection.execute(move, {"n": -1})


@contextmanager
def other_charge(shop: Shop) -> Iterator[None]:
    """A payment says that the provider charged it under another number."""
    change = "UPDATE payment SET charge_id = %s WHERE charge_id = %s"
    with psycopg.connect(shop.addresses.dsns["payments"], autocommit=True) as connection:
        row = connection.execute("SELECT max(charge_id) FROM payment").fetchone()
        assert row is not None
        connection.execute(change, ("ch_none", row[0]))
        try:
            yield
        finally:
            connection.execute(change, (row[0], "ch_none"))


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        (second_charge, "charged_once"),
        (sold_twice, "reserved_is_accounted_for"),
        (other_charge, "payment_names_its_charge"),
    ],
    ids=["second-charge", "sold-twice", "other-charge"],
)
def test_verify_names_the_rule_that_a_planted_error_breaks(
    quiet_shop: Shop, planted: Any, rule: str
) -> None:
    """Exit code 1; the rule with the ids, for programs and for people; balanced again after it."""
    with planted(quiet_shop):
        done = verify(quiet_shop, "--json")
        told = verify(quiet_shop)
    assert done.returncode == told.returncode == 1
    document = json.loads(done.stdout)
    assert document["balanced"] is False
    found = {violation["rule"]: violation["ids"] for violation in document["violations"]}
    assert found.get(rule), found
    assert rule in told.stdout
    assert "do NOT balance" in told.stdout
    assert settled_report(quiet_shop).balanced


def test_verify_without_a_run_is_a_wrong_use(tmp_path: Path) -> None:
    """Exit code 2 and a sentence that says what to do; nothing on standard output."""
    command = [sys.executable, "-m", "scalelab", "verify", "--run", str(tmp_path), "--json"]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "./lab up month6" in done.stderr
