"""Two versions of a service behind one route."""

from __future__ import annotations

from month1_caching_gateway.gateway import Route
from month1_caching_gateway.gateway.canary import Canary
from tests.integration.month1.gateway.harness import client, peer, running, until


async def test_each_request_reaches_the_version_that_was_chosen() -> None:
    """By header, else by weight; the choice is in the log and in the metrics."""
    route = Route("old", prefix="/", auth="none", canary=Canary("new", 30.0, header="x-canary"))
    async with (
        peer() as old,
        peer() as new,
        running({"old": [old], "new": [new]}, [route]) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(5):
            await http.ask("GET", "/forced", X_Canary="always")
            await http.ask("GET", "/kept", X_Canary="never")
        assert {seen.target for seen in new.seen} == {"/forced"}
        assert {seen.target for seen in old.seen} == {"/kept"}
        for _ in range(100):
            await http.ask("GET", "/drawn")
        drawn = len(new.seen) - 5
        assert 10 <= drawn <= 50  # 4.4 standard deviations on either side
        labels = {"route": "/*", "upstream": "new"}
        name = "gateway_canary_choices_total"
        assert gateway.metric(name, **labels, why="header") == 5
        assert gateway.metric(name, **labels, why="weight") == drawn
        await until(lambda: len(gateway.records()) == 110)
        upstreams = {(record["path"], record["upstream"]) for record in gateway.records()}
        assert ("/forced", "new") in upstreams
        assert ("/kept", "old") in upstreams
