"""A real mesh of Envoy sidecars around the REST door of rpc/, whose code knows nothing of it."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from month3_messaging.experiments.mesh_bed import (
    PENS,
    SHOP,
    STOCK,
    STRANGER,
    MeshBed,
    Workload,
    sidecar_of,
)
from month3_messaging.mesh import (
    Ejection,
    Outbound,
    Retries,
    Sidecar,
    Version,
    cluster_name,
    envoy_config,
)
from month3_messaging.rpc import Hold, HoldLine, RestStock
from scalelab.clients.http import HttpClient
from scalelab.errors import Conflict, Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Envoy, ServerFailed

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
LONG_S = 60.0
PATIENT = Retries(2, LONG_S)
NEVER = Ejection(failures=1000)
CANARY_PERCENT = 20


@pytest.fixture(scope="module")
def bed(server_root: Path) -> Iterator[MeshBed]:
    """One mesh for all tests; each takes a way out of its own, with its own counts."""
    with Runtime(server_root / "mesh", private=True) as runtime:
        made = MeshBed(runtime, server_root / "mesh-authority")
        a, b, canary = (made.doors[name] for name in PENS)
        only_a, both = (Version("v1", 1, (a,)),), (Version("v1", 1, (a, b)),)
        split = (
            Version("v1", 100 - CANARY_PERCENT, (a, b)),
            Version("v2", CANARY_PERCENT, (canary,)),
        )
        stranger = runtime.port("door-stranger", 0)
        elsewhere = (Version("v1", 1, (stranger,)),)
        ways = {
            "one": Outbound(STOCK, 0, only_a, LONG_S, PATIENT, NEVER),
            "split": Outbound(STOCK, 0, split, LONG_S, PATIENT, NEVER),
            "retry": Outbound(STOCK, 0, both, LONG_S, PATIENT, NEVER),
            "late": Outbound(STOCK, 0, only_a, 1.0, Retries(0, 1.0), NEVER),
            "eject": Outbound(STOCK, 0, both, LONG_S, Retries(0, LONG_S), Ejection(2, 600.0)),
            "killed": Outbound(STOCK, 0, both, LONG_S, PATIENT, NEVER),
            "impostor": Outbound(STOCK, 0, elsewhere, LONG_S, PATIENT, NEVER),
        }
        for name, way in ways.items():
            made.way(name, way)
        made.start(made.door("stranger", STRANGER, stranger, made.services["a"]))
        yield made


@asynccontextmanager
async def through(bed: MeshBed, way: str) -> AsyncGenerator[RestStock, None]:
    """The client of rpc/, told nothing but another address."""
    address = f"http://127.0.0.1:{bed.ways[way].port}"
    async with HttpClient(address, timeout_s=LONG_S, connect_timeout_s=LONG_S) as client:
        yield RestStock(client)


def counts(bed: MeshBed, way: str) -> Counter[str]:
    """What the shop's sidecar counted for version 1 by that way."""
    outbound = bed.ways[way]
    cluster = cluster_name(outbound, outbound.versions[0])
    return Counter(bed.envoy(SHOP).counters(f"cluster.{cluster}."))


async def pens(stock: RestStock, *questions: str) -> int:
    """The level of `pen`: which instance answered."""
    return (await stock.levels(["pen", *questions], timeout_s=LONG_S))["pen"]


async def test_a_call_goes_through_two_sidecars_and_back(bed: MeshBed) -> None:
    """A read and a command, and the service's own errors as they are."""
    async with through(bed, "one") as stock:
        assert await pens(stock) == PENS["a"]
        hold = Hold("too-much", (HoldLine("pen", 9),), 60.0)
        with pytest.raises(Conflict) as refused:
            await stock.hold(hold, timeout_s=LONG_S)
    assert refused.value.stable_code == "out_of_stock"


async def test_failing_replies_are_hidden_by_retries_and_counted(bed: MeshBed) -> None:
    """M4: each instance fails once a call; two retries find an answer, and nobody notices."""
    before = counts(bed, "retry")
    async with through(bed, "retry") as stock:
        for number in range(10):
            assert await pens(stock, f"fail-all-1-hidden{number}") in (PENS["a"], PENS["b"])
    spent = counts(bed, "retry") - before
    assert (spent["upstream_rq_retry"], spent["upstream_rq_retry_success"]) == (20, 10)


async def test_more_failures_than_retries_are_told(bed: MeshBed) -> None:
    """M4: three tries, then the caller hears it."""
    before = counts(bed, "retry")
    async with through(bed, "retry") as stock:
        with pytest.raises(Unavailable):
            await pens(stock, "fail-all-99-told")
    spent = counts(bed, "retry") - before
    assert (spent["upstream_rq_retry"], spent["upstream_rq_retry_limit_exceeded"]) == (2, 1)


async def test_a_canary_gets_its_share(bed: MeshBed) -> None:
    """M5: within four standard deviations."""
    calls = 200
    async with through(bed, "split") as stock:
        seen = Counter([await pens(stock) for _ in range(calls)])
    expected = calls * CANARY_PERCENT / 100
    sigma = math.sqrt(expected * (1 - CANARY_PERCENT / 100))
    assert abs(seen[PENS["canary"]] - expected) <= 4 * sigma
    assert min(seen[PENS["a"]], seen[PENS["b"]]) > 0


async def test_a_call_ends_at_its_time_out(bed: MeshBed) -> None:
    """The service keeps the question for ever; the sidecar does not."""
    before = counts(bed, "late")
    async with through(bed, "late") as stock:
        with pytest.raises(Unavailable):
            await pens(stock, "ask-something")
    spent = counts(bed, "late") - before
    assert spent["upstream_rq_timeout"] + spent["upstream_rq_per_try_timeout"] == 1


async def test_an_instance_that_fails_is_put_out(bed: MeshBed) -> None:
    """Exactly as many calls fail as it takes; then the other one answers everything."""
    failed = 0
    async with through(bed, "eject") as stock:
        for _ in range(30):
            try:
                assert await pens(stock, "fail-b-1000-out") == PENS["a"]
            except Unavailable:
                failed += 1
    assert failed == bed.ways["eject"].ejection.failures
    assert counts(bed, "eject")["outlier_detection.ejections_active"] == 1


async def test_a_killed_sidecar_takes_its_instance_along_and_no_call(bed: MeshBed) -> None:
    """Connections are refused, the other instance answers; restarted it is in again."""
    async with through(bed, "killed") as stock:
        assert {await pens(stock) for _ in range(4)} == {PENS["a"], PENS["b"]}
        bed.runtime.kill(sidecar_of("b"))
        try:
            assert {await pens(stock) for _ in range(20)} == {PENS["a"]}
        finally:
            bed.runtime.restart(sidecar_of("b"))
        assert {await pens(stock) for _ in range(20)} == {PENS["a"], PENS["b"]}


async def test_without_its_own_sidecar_a_caller_reaches_nobody(bed: MeshBed) -> None:
    """There is no way around, and it is told that nothing was sent."""
    bed.runtime.kill(SHOP)
    try:
        async with through(bed, "one") as stock:
            with pytest.raises(Unavailable):
                await pens(stock)
    finally:
        bed.runtime.restart(SHOP)


async def test_a_service_of_another_name_is_not_talked_to(bed: MeshBed) -> None:
    """M3: it stands where stock should, with a good certificate, and hears nothing."""
    async with through(bed, "impostor") as stock:
        with pytest.raises(Unavailable):
            await pens(stock)
    assert counts(bed, "impostor")["ssl.fail_verify_san"] >= 1
    assert bed.envoy(sidecar_of("stranger")).counters("http.inbound.")["rq_total"] == 0


def get(bed: MeshBed, who: Workload | None, folder: Path) -> int:
    """The status that instance `a` gives to a caller with this certificate, over TLS."""
    context = ssl.create_default_context(cadata=bed.workload(SHOP).authority)
    context.check_hostname = False
    if who is not None:
        pem = folder / "caller.pem"
        pem.write_text(who.certificate + who.key, encoding="ascii")
        context.load_cert_chain(pem)
    connection = http.client.HTTPSConnection(
        "127.0.0.1", bed.doors["a"], context=context, timeout=LONG_S
    )
    try:
        connection.request("GET", "/v1/levels?ids=pen")
        return connection.getresponse().status
    finally:
        connection.close()


def heard(bed: MeshBed) -> int:
    """Requests that came through the door of instance `a`."""
    return bed.envoy(sidecar_of("a")).counters("http.inbound.")["rq_total"]


def test_the_named_caller_is_let_in_and_another_one_is_not(bed: MeshBed, tmp_path: Path) -> None:
    """M2: both have good certificates; one is named."""
    before = Counter(bed.envoy(sidecar_of("a")).counters("http.inbound.rbac."))
    assert get(bed, bed.workload(SHOP), tmp_path) == 200
    assert get(bed, bed.workload(STRANGER), tmp_path) == 403
    after = Counter(bed.envoy(sidecar_of("a")).counters("http.inbound.rbac."))
    assert after - before == {"allowed": 1, "denied": 1}


@pytest.mark.parametrize("who", ["nobody", "of another authority", "run out"])
def test_without_a_good_certificate_nothing_is_heard(
    bed: MeshBed, who: str, tmp_path: Path
) -> None:
    """M1: the handshake fails; no request reaches the sidecar's rules, let alone the service."""
    caller = None
    if who == "run out":
        caller = bed.workload(SHOP, ended=True)
    elif who == "of another authority":
        caller = MeshBed(bed.runtime, tmp_path / "another").workload(SHOP)
    before = heard(bed)
    with pytest.raises((OSError, http.client.HTTPException)):
        get(bed, caller, tmp_path)
    assert heard(bed) == before


def test_plain_text_is_not_answered(bed: MeshBed) -> None:
    """M1: whatever the sidecar does with the connection, there is no HTTP in it."""
    before = heard(bed)
    said = b""
    with socket.create_connection(("127.0.0.1", bed.doors["a"]), timeout=LONG_S) as plain:
        try:
            plain.sendall(b"GET /v1/levels?ids=pen HTTP/1.1\r\nHost: stock\r\n\r\n")
            while piece := plain.recv(4096):
                said += piece
        except ConnectionError:
            pass
    assert not said.startswith(b"HTTP")
    assert heard(bed) == before


def test_metrics_are_there_for_prometheus(bed: MeshBed, tmp_path: Path) -> None:
    """Counted by the sidecar: the service's own metrics are not needed for it."""
    get(bed, bed.workload(SHOP), tmp_path)
    text = bed.envoy(sidecar_of("a")).metrics()
    assert "# TYPE envoy_http_downstream_rq_total counter" in text
    assert 'envoy_http_conn_manager_prefix="inbound"' in text


def test_a_configuration_that_envoy_refuses_starts_nothing(bed: MeshBed) -> None:
    """It is validated before the start, and the error says what failed."""
    config = envoy_config(Sidecar("odd", outbounds=(bed.ways["one"],)))
    config["static_resources"]["listeners"][0]["adress"] = {}
    odd = Envoy(config, "odd", files=bed.workload("odd").files)
    with pytest.raises(ServerFailed, match="odd's check"):
        bed.runtime.start(odd)
