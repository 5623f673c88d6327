"""Authentication as a dependency: problems, challenge, scope, and the name in the log."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Depends

from scalelab.clock import ManualClock
from scalelab.security import Principal, StaticJwks, TokenVerifier, jwks
from scalelab.web.auth import require
from tests.security.core.token_forge import FORGED, Case, Forge
from tests.unit.core.web.asgi_harness import Bench, bench, call


def door() -> tuple[Forge, Bench]:
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    verifier = TokenVerifier(StaticJwks(jwks([forge.key])), forge.issuer, forge.audience, clock)
    router = APIRouter()
    shopper, anybody = Depends(require(verifier, "shop")), Depends(require(verifier))

    @router.get("/me")
    async def me(
        caller: Principal = shopper,
    ) -> dict[str, str]:
        return {"subject": caller.subject}

    @router.get("/open")
    async def anyone(caller: Principal = anybody) -> dict[str, str]:
        return {"subject": caller.subject}

    return forge, bench(router)


async def test_good_token_gives_its_principal_and_names_the_user_in_the_log() -> None:
    """The scheme's name is read in any case, as RFC 7235 asks."""
    forge, it = door()
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = [("authorization", f"{scheme} {forge.signed()}")]
        assert (await call(it.app, "GET", "/me", headers=headers)).json == {"subject": "user-1"}
    assert {line["user"] for line in it.lines} == {"user-1"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "token_missing"),
        (["Basic dTpw"], "token_missing"),
        (["Bearer"], "token_missing"),
        (["Bearer "], "token_missing"),
        (["Bearer a b"], "token_malformed"),
        (["Bearer a.b.c", "Bearer d.e.f"], "token_malformed"),
        (["Bearer \u00e9.\u00e9.\u00e9"], "token_malformed"),
        (["Bearer " + "x" * 9000], "token_malformed"),
    ],
    ids=range(8),
)
async def test_unreadable_credentials_are_401_with_a_challenge(
    headers: list[str], code: str
) -> None:
    """Whatever stands in the header, the answer is a problem that says how to log in."""
    _, it = door()
    sent = [("authorization", value) for value in headers]
    answer = await call(it.app, "GET", "/me", headers=sent)
    assert (answer.status, answer.json["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("case", FORGED, ids=lambda case: case.name)
async def test_forged_token_is_401_at_the_door(case: Case) -> None:
    """The whole list again, through HTTP: 401 or, where the head is too large, 431."""
    forge, it = door()
    token = case.build(forge).encode("utf-8", "replace").decode("latin-1")
    answer = await call(it.app, "GET", "/me", headers=[("authorization", f"Bearer {token}")])
    if answer.status != 431:
        assert answer.status == 401
        assert answer.json["code"] in ("token_malformed", "token_invalid", "token_expired")


async def test_missing_scope_is_403_and_still_names_the_user() -> None:
    """Known, but not allowed; without a demanded scope any good token will do."""
    forge, it = door()
    token = forge.signed(claims=forge.claims(scope="internal shopping"))
    headers = [("authorization", f"Bearer {token}")]
    answer = await call(it.app, "GET", "/me", headers=headers)
    assert (answer.status, answer.json["code"]) == (403, "insufficient_scope")
    assert it.lines[-1]["user"] == "user-1"
    assert (await call(it.app, "GET", "/open", headers=headers)).status == 200


def test_secured_operations_are_described() -> None:
    """OpenAPI names the scheme, and 401 and 403 where a token is needed."""
    _, it = door()
    document = it.app.openapi()
    operation = document["paths"]["/me"]["get"]
    assert operation["security"] == [{"bearer": []}]
    assert {"401", "403"} <= operation["responses"].keys()
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
