"""What every service built by the factory does with any request."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from scalelab.errors import Conflict, NotFound, Unavailable
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app, lifecycle_of
from tests.unit.core.web.asgi_harness import bench, call

JSON = ("content-type", "application/json")


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    product: str = Field(max_length=5)
    quantity: int = Field(ge=1, le=100)


def shop() -> APIRouter:
    router = APIRouter(prefix="/orders")

    @router.post("")
    async def create(order: Order) -> Order:
        return order

    @router.get("/{order_id}")
    async def read(order_id: int, limit: int = 5) -> dict[str, int]:
        return {"order_id": order_id, "limit": limit}

    @router.put("/{order_id}")
    async def change(order_id: int) -> None:
        raise NotFound(f"no order {order_id}", code="unknown_order")

    @router.delete("/{order_id}")
    async def cancel(order_id: int) -> None:
        raise Conflict("declined", code="card_declined")

    @router.patch("/{order_id}")
    async def crash(order_id: int) -> None:
        password = "hunter2"  # noqa: F841 - must not reach the log as a local variable
        raise KeyError("internal detail")

    return router


async def test_schema_violations_are_422_and_echo_no_values() -> None:
    """Every broken field is named; what was sent for it is not repeated."""
    body = b'{"product": "4242424242424242", "quantity": 0, "price": "31337"}'
    answer = await call(bench(shop()).app, "POST", "/orders", headers=[JSON], body=[body])
    assert (answer.status, answer.json["code"]) == (422, "invalid_input")
    assert answer.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in answer.json["errors"]] == ["product", "quantity", "price"]
    assert b"4242" not in answer.body
    assert b"31337" not in answer.body


async def test_path_and_query_violations_name_their_parameter() -> None:
    """The same document for parameters."""
    answer = await call(bench(shop()).app, "GET", "/orders/x?limit=y")
    assert answer.status == 422
    assert {one["field"] for one in answer.json["errors"]} == {"order_id", "limit"}


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b'"\xff"', b'{"quantity": ' + b"9" * 5000 + b"}", b"[" * 100, b"{'a': 1}", b"\0"],
    ids=["cut", "empty", "not-utf-8", "huge-number", "deep", "single-quotes", "nul"],
)
async def test_body_that_is_not_json_is_400(body: bytes) -> None:
    """Readable or not is a different question from right or wrong; an empty body lacks fields."""
    answer = await call(bench(shop()).app, "POST", "/orders", headers=[JSON], body=[body])
    expected = (400, "malformed_json") if body else (422, "invalid_input")
    assert (answer.status, answer.json["code"]) == expected


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_types_are_415(media_type: str) -> None:
    """Not 422: the fields were never looked at."""
    headers = [("content-type", media_type)] if media_type else []
    body = b'{"product": "a", "quantity": 1}'
    answer = await call(bench(shop()).app, "POST", "/orders", headers=headers, body=[body])
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")


async def test_unknown_path_is_a_problem() -> None:
    """404 of the router looks like 404 of a handler."""
    answer = await call(bench(shop()).app, "GET", "/nothing")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert answer.json["instance"] == "/nothing"


async def test_wrong_method_lists_all_methods_of_the_path() -> None:
    """RFC 9110: Allow names what the resource takes, over all routes of that path."""
    answer = await call(bench(shop()).app, "POST", "/orders/7")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, PUT, PATCH, DELETE"


async def test_errors_of_handlers_become_problems() -> None:
    """Ours by their class, a service's own codes by the status it names."""
    it = bench(shop(), statuses={"card_declined": 402})
    missing = await call(it.app, "PUT", "/orders/7")
    assert (missing.status, missing.json["code"]) == (404, "unknown_order")
    assert (await call(it.app, "DELETE", "/orders/7")).status == 402


async def test_unknown_exception_is_500_without_details_and_logged_with_traceback() -> None:
    """The caller gets an id; the log gets the story, without local variables."""
    it = bench(shop())
    answer = await call(it.app, "PATCH", "/orders/7")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"internal detail" not in answer.body
    (line,) = [line for line in it.lines if line["level"] == "error"]
    assert "KeyError: 'internal detail'" in line["exception"]
    assert "hunter2" not in it.stream.getvalue()
    assert line["request_id"] == answer.json["request_id"] == answer.headers["x-request-id"]


async def test_what_a_503_hides_is_in_the_log() -> None:
    """Whoever operates the service can tell which dependency failed."""
    router = APIRouter()

    @router.get("/busy")
    async def busy() -> None:
        raise Unavailable("catalog refused the connection", retry_after_s=2)

    it = bench(router)
    answer = await call(it.app, "GET", "/busy")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert b"catalog" not in answer.body
    assert any(line.get("error") == "catalog refused the connection" for line in it.lines)


@pytest.mark.parametrize("sent", ["abc-123", "x" * 128, "!~"])
async def test_sane_request_id_is_kept(sent: str) -> None:
    """A caller's id follows the request through answer and log."""
    it = bench(shop())
    answer = await call(it.app, "GET", "/orders/1", headers=[("x-request-id", sent)])
    assert answer.headers["x-request-id"] == sent
    assert it.lines[-1]["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\r\nset-cookie: x", "\u00e9", "a\0"])
async def test_odd_request_id_is_replaced(sent: str) -> None:
    """Nothing a caller sends can break a header or a log line."""
    it = bench(shop())
    answer = await call(it.app, "GET", "/orders/1", headers=[("x-request-id", sent)])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert len(it.lines) == 1


async def test_requests_are_counted_by_template_and_class() -> None:
    """Label sets stay bounded: templates, known methods, one name for the rest."""
    it = bench(shop())
    for order in range(3):
        await call(it.app, "GET", f"/orders/{order}")
    await call(it.app, "GET", "/orders/x")
    for path in ("/a", "/b"):
        await call(it.app, "BREW", path)
    name, template = "scalelab_http_requests_total", "/orders/{order_id}"
    assert it.metric(name, method="GET", route=template, status_class="2xx") == 3
    assert it.metric(name, method="GET", route=template, status_class="4xx") == 1
    assert it.metric(name, method="OTHER", route="unmatched", status_class="4xx") == 2
    assert it.metric("scalelab_http_request_seconds_count", method="GET", route=template) == 4
    assert it.metric("scalelab_http_in_flight") == 0


async def test_template_includes_the_prefixes_of_nested_routers() -> None:
    """A router included under prefixes reports the path its callers use."""
    outer, middle = APIRouter(prefix="/api"), APIRouter()
    middle.include_router(shop(), prefix="/v1")
    outer.include_router(middle)
    it = bench(outer)
    assert (await call(it.app, "GET", "/api/v1/orders/1")).status == 200
    await call(it.app, "POST", "/api/v1/orders/1")
    assert {line["route"] for line in it.lines} == {"/api/v1/orders/{order_id}"}


async def test_access_log_is_one_line_without_query_string() -> None:
    """Tokens travel in query strings; the log has the template instead of the URL."""
    it = bench(shop())
    await call(
        it.app, "GET", "/orders/1?access_token=s3cret", headers=[("authorization", "Bearer x")]
    )
    (line,) = it.lines
    assert line["event"] == "request"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/orders/{order_id}", 200)
    assert line["duration_ms"] >= 0
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert "s3cret" not in it.stream.getvalue()
    assert "Bearer" not in it.stream.getvalue()


async def test_trace_of_the_caller_is_continued() -> None:
    """The trace id of traceparent is the one in the log."""
    it = bench(shop())
    header = f"00-{'a' * 32}-{'b' * 16}-01"
    await call(it.app, "GET", "/orders/1", headers=[("traceparent", header)])
    assert it.lines[-1]["trace_id"] == "a" * 32
    assert it.lines[-1]["span_id"] != "b" * 16


@pytest.mark.parametrize(
    "sent",
    ["", "00", f"ff-{'a' * 32}-{'b' * 16}-01", f"00-{'0' * 32}-{'b' * 16}-01", "\u00e9" * 55,
     f"00-{'A' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-01-x", "x" * 9000],
    ids=str,
)  # fmt: skip
async def test_malformed_traceparent_starts_a_new_trace(sent: str) -> None:
    """It is never the caller's problem, and never ours."""
    it = bench(shop())
    answer = await call(it.app, "GET", "/orders/1", headers=[("traceparent", sent)])
    assert answer.status == 200
    assert it.lines[-1]["trace_id"] not in ("a" * 32, "0" * 32)


async def test_two_traceparents_start_a_new_trace() -> None:
    """Whichever was meant, it cannot be told."""
    it = bench(shop())
    twice = [("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")] * 2
    await call(it.app, "GET", "/orders/1", headers=twice)
    assert it.lines[-1]["trace_id"] != "a" * 32


async def test_probes_and_metrics_leave_no_trace_of_themselves() -> None:
    """Neither in the log nor in the rates that alerts are built on; ids they have all the same."""
    it = bench(shop())
    for path in ("/health/live", "/health/ready", "/health/startup", "/metrics"):
        assert (await call(it.app, "GET", path)).headers["x-request-id"]
    assert it.lines == []
    assert b"scalelab_http_requests_total{" not in (await call(it.app, "GET", "/metrics")).body


async def test_two_apps_in_one_process_keep_apart() -> None:
    """A monolith of several services: own registry, own log, own lifecycle."""
    one, two = bench(shop()), bench(shop())
    await call(one.app, "GET", "/orders/1")
    assert len(one.lines) == 1
    assert two.lines == []
    lifecycle_of(one.app).begin_drain()
    assert not lifecycle_of(two.app).draining.is_set()


async def test_startup_probe_follows_the_lifespan() -> None:
    """Not started before the lifespan is up, nor after it is down."""
    at: list[bool] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, int], None]:
        at.append(lifecycle_of(app).started)
        yield {"pool": 1}
        at.append(lifecycle_of(app).started)

    it = bench(shop(), lifespan=lifespan)
    assert (await call(it.app, "GET", "/health/startup")).status == 503
    async with it.app.router.lifespan_context(it.app) as state:
        assert state == {"pool": 1}
        assert (await call(it.app, "GET", "/health/startup")).status == 200
    assert (await call(it.app, "GET", "/health/startup")).status == 503
    assert at == [False, False]


async def test_failing_lifespan_is_kept_for_whoever_serves() -> None:
    """The process's entry can report what really happened."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        raise Unavailable("no database")
        yield

    it = bench(shop(), lifespan=lifespan)
    with pytest.raises(Unavailable):
        async with it.app.router.lifespan_context(it.app):
            pass
    assert isinstance(lifecycle_of(it.app).startup_error, Unavailable)
    assert not lifecycle_of(it.app).started


async def test_exemplars_name_the_trace_in_openmetrics(tmp_path: Path) -> None:
    """A slow bucket points at a trace; only sampled traces are worth pointing at."""
    settings = TelemetrySettings("test", "error", f"file:{tmp_path}/spans.jsonl")
    telemetry = build_telemetry(settings)
    app = create_app(telemetry=telemetry, routers=[shop()])
    header = f"00-{'a' * 32}-{'b' * 16}-01"
    await call(app, "GET", "/orders/1", headers=[("traceparent", header)])
    accept = [("accept", "application/openmetrics-text; version=1.0.0")]
    answer = await call(app, "GET", "/metrics", headers=accept)
    telemetry.shutdown()
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert f'# {{trace_id="{"a" * 32}"}}' in answer.body.decode()


async def test_half_an_answer_is_broken_off() -> None:
    """An exception after the head is out cannot become a problem; the connection breaks."""
    router = APIRouter()

    class Broken(Response):
        async def __call__(self, scope: object, receive: object, send: object) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
            raise RuntimeError("gone")

    @router.get("/broken", response_model=None)
    async def broken() -> Response:
        return Broken()

    it = bench(router)
    with pytest.raises(RuntimeError):
        await call(it.app, "GET", "/broken")
    assert any(line["level"] == "error" for line in it.lines)
    assert it.metric("scalelab_http_in_flight") == 0
