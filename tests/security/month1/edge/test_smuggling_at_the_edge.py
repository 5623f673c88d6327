"""The twenty cases through nginx, our gateway, and a server that counts with a third parser.

A chain is held to three promises: an answer 2xx for each request that the last server saw, in
order, and for no other; nothing on a connection after what was refused; and no trace of it in the
next requests, which reuse the connections between edge, gateway and server.
"""

from __future__ import annotations

import pytest

from tests.integration.month1.gateway.harness import Got, RawClient, client
from tests.security.month1.edge.conftest import Chain
from tests.security.month1.smuggling_cases import AFTER, BEFORE, HARMLESS, NUMBERED, REFUSED

REWRITTEN = {
    # nginx ends a line at a bare LF, and writes CRLF: two requests came, two go on.
    "bare-lf": ["/", "/smuggled"],
    "chunk-data-ends-in-lf": ["/"],
    "chunk-line-ends-in-lf": ["/"],
    # It drops a header with an underscore, so the request has no body and the next one follows.
    "cl-underscore": ["/", "/smuggled"],
    # It drops trailers, Upgrade with Connection, extra spaces, and the minor version.
    "chunk-trailer": ["/"],
    "h2c-upgrade": ["/"],
    "two-spaces": ["/"],
    "http-1.2": ["/"],
    # It takes the host from an absolute target and sends the path on.
    "absolute-form": ["/x"],
    # The host is judged without what stands before an @, and is not ours: 421, and the next.
    "host-with-user": [],
}
"""What nginx reads in one way and writes anew in that way, by the targets that go on; the gateway
alone refuses all of it. Everything else is refused by nginx as well."""

LAST = AFTER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
"""The honest request after it; the last one, so that nobody waits for more."""

CASES = [
    pytest.param(variant, id=f"{number:02}-{variant}")
    for number, (_, variants) in sorted(NUMBERED.items())
    for variant in variants
]


async def answers(http: RawClient) -> list[Got]:
    """All answers until the connection ends or rests."""
    got: list[Got] = []
    while True:
        try:
            got.append(await http.answer())
        except EOFError:
            return got


@pytest.mark.parametrize("case", CASES)
async def test_two_readers_agree_or_nothing_goes_on(chain: Chain, case: str) -> None:
    """Between two honest requests; then an honest one on a new connection, four times."""
    async with client(chain.edge.port) as http:
        await http.send(BEFORE + REFUSED[case] + LAST)
        got = await answers(http)
    statuses = [one.status for one in got]
    targets = [seen.target for seen in chain.app.seen]
    assert statuses.count(200) == len(targets)
    assert chain.app.bad_streams == 0
    if case in REWRITTEN:
        assert targets == ["/before", *REWRITTEN[case], "/after"]
    elif case == "te-underscore":
        # Dropped as well; what should have been its body is then no request, and is refused.
        assert (targets, statuses[-1]) == (["/before", "/"], 400)
    else:
        assert targets == ["/before"]
        assert all(status in (400, 501) for status in statuses[1:])
    chain.cleared()
    for number in range(4):
        async with client(chain.edge.port) as http:
            assert (await http.ask("GET", f"/honest/{number}")).json()["target"] == (
                f"/honest/{number}"
            )
    assert [seen.target for seen in chain.app.seen] == [f"/honest/{n}" for n in range(4)]


@pytest.mark.parametrize("case", sorted(HARMLESS))
async def test_what_only_looks_odd_is_served_once(chain: Chain, case: str) -> None:
    """Three requests sent are three seen, whatever stands in their bodies."""
    async with client(chain.edge.port) as http:
        await http.send(BEFORE + HARMLESS[case] + AFTER)
        for _ in range(3):
            assert (await http.answer()).status == 200
    assert [seen.target for seen in chain.app.seen] == ["/before", "/", "/after"]
    assert chain.app.bad_streams == 0
