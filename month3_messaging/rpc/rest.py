"""The REST door: a hold is a resource with the caller's id, so PUT may be repeated.

HTTP has no deadline. `X-Timeout-Ms` is ours: what the caller's patience leaves, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from month3_messaging.rpc.stock_desk import MOST_LINES, Hold, HoldLine, StockDesk
from scalelab.clients.http import HttpClient
from scalelab.web import problem_responses

TIMEOUT_HEADER = "X-Timeout-Ms"


class LineIn(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid")

    product_id: Annotated[str, Field(min_length=1, max_length=64)]
    quantity: Annotated[int, Field(strict=True)]


class HoldIn(BaseModel):
    """PUT /v1/holds/{hold_id}. What the values may be is the desk's to say."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[list[LineIn], Field(max_length=MOST_LINES)]
    ttl_s: float


class HoldOut(BaseModel):
    """taken: by this call, not by an earlier copy of it."""

    taken: bool


class LevelsOut(BaseModel):
    """free: pieces by product."""

    free: dict[str, int]


def rest_router(desk: StockDesk) -> APIRouter:
    """`PUT /v1/holds/{hold_id}` and `GET /v1/levels?ids=a,b`."""
    router = APIRouter(prefix="/v1")

    @router.put("/holds/{hold_id}", responses=problem_responses(404, 409, 422, 503))
    async def hold(  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        hold_id: Annotated[str, Path(max_length=64)],
        wanted: HoldIn,
        x_timeout_ms: Annotated[int | None, Header(ge=0)] = None,
    ) -> HoldOut:
        """Hold all lines or none."""
        lines = tuple(HoldLine(line.product_id, line.quantity) for line in wanted.lines)
        left_s = None if x_timeout_ms is None else x_timeout_ms / 1000
        return HoldOut(taken=await desk.hold(Hold(hold_id, lines, wanted.ttl_s), left_s=left_s))

    @router.get("/levels")
    async def levels(  # pyright: ignore[reportUnusedFunction] - as above
        ids: Annotated[str, Query(max_length=4096)],
    ) -> LevelsOut:
        """Free pieces; unknown products are absent."""
        return LevelsOut(free=desk.levels(ids.split(",")))

    return router


class RestStock:
    """StockCalls over HTTP."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def hold(self, hold: Hold, *, timeout_s: float) -> bool:
        body = {
            "lines": [
                {"product_id": line.product_id, "quantity": line.quantity} for line in hold.lines
            ],
            "ttl_s": hold.ttl_s,
        }
        headers = {TIMEOUT_HEADER: str(round(1000 * timeout_s))}
        answer = await self._http.put(
            f"/v1/holds/{hold.hold_id}", body, headers=headers, timeout_s=timeout_s
        )
        return HoldOut.model_validate_json(answer.body).taken

    async def levels(self, product_ids: Sequence[str], *, timeout_s: float) -> dict[str, int]:
        answer = await self._http.get(
            "/v1/levels", params={"ids": ",".join(product_ids)}, timeout_s=timeout_s
        )
        return LevelsOut.model_validate_json(answer.body).free
