"""/api/v1/letters: the desk for programs; tokens of scope `desk`, whose subject the audit names.

A decision names the version that was looked at; one taken on an older version is refused with
409 `letter_changed`. Repeating a decision changes nothing and answers the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from month3_messaging.deadletters.desk import Desk
from month3_messaging.deadletters.letter import State
from month3_messaging.deadletters.letters_postgres import AuditLine, Kept, as_text
from scalelab.security import Principal, TokenVerifier
from scalelab.web import problem_responses
from scalelab.web.auth import require

SCOPE = "desk"


class LetterOut(BaseModel):
    """A letter without its content."""

    id: int
    version: int
    state: State
    round: int
    group: str
    origin: str
    event_id: str
    type: str
    key: str | None
    attempts: int
    code: str
    message: str
    parked_at: datetime
    changed_at: datetime


class AuditOut(BaseModel):
    """Who did what, when; the letter before and after."""

    at: datetime
    who: str
    what: str
    before: dict[str, Any] | None
    after: dict[str, Any]


class WholeLetter(LetterOut):
    """A letter with all that is known of it. value: its text, or {"base64": …}."""

    headers: dict[str, str]
    value: str | dict[str, str]
    stack: str
    audit: list[AuditOut]


class DecisionIn(BaseModel):
    """version: the one that was looked at."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, strict=True)]


class EditIn(DecisionIn):
    """headers: to be set, or with null to be taken away. value: text, absent to keep it."""

    headers: Annotated[dict[str, str | None], Field(max_length=64)] = {}
    value: str | None = None


class CleanIn(BaseModel):
    """older_than_s: since the letters' last change; a day at least. limit: so many at most."""

    model_config = ConfigDict(extra="forbid")

    older_than_s: Annotated[float, Field(ge=86_400, allow_inf_nan=False, le=1e9)]
    limit: Annotated[int, Field(ge=1, le=1000, strict=True)] = 500


def desk_router(desk: Desk, verifier: TokenVerifier) -> APIRouter:
    """List, show, edit, replay, discard, clean."""
    router = APIRouter(prefix="/api/v1/letters", tags=["dead letters"])
    caller = Depends(require(verifier, SCOPE))
    _add_reading(router, desk, caller)
    _add_deciding(router, desk, caller)
    _add_cleaning(router, desk, caller)
    return router


def _add_reading(router: APIRouter, desk: Desk, caller: Any) -> None:
    @router.get("", responses=problem_responses(401, 403, 422, 503))
    async def list_letters(
        _principal: Principal = caller,
        state: State | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> list[LetterOut]:
        """Letters of a state, or all, with ids over `after`."""
        return [_letter_out(one) for one in await desk.list(state, after=after, limit=limit)]

    @router.get("/{letter_id}", responses=problem_responses(401, 403, 404, 422, 503))
    async def show(letter_id: int, _principal: Principal = caller) -> WholeLetter:
        """One letter, its content, its stack and its audit."""
        return _whole(*await desk.show(letter_id))

    @router.get("/{letter_id}/audit", responses=problem_responses(401, 403, 404, 422, 503))
    async def audit(letter_id: int, _principal: Principal = caller) -> list[AuditOut]:
        """What was done to a letter, also to one that was cleaned away."""
        return [_audit_out(line) for line in await desk.audit(letter_id)]


def _add_cleaning(router: APIRouter, desk: Desk, caller: Any) -> None:
    @router.post("/clean", responses=problem_responses(401, 403, 422, 503))
    async def clean(wanted: CleanIn, principal: Principal = caller) -> dict[str, int]:
        """Take away settled letters, oldest first. cleaned: how many; call again at the limit."""
        cleaned = await desk.clean(
            older_than_s=wanted.older_than_s, who=principal.subject, limit=wanted.limit
        )
        return {"cleaned": cleaned}


def _add_deciding(router: APIRouter, desk: Desk, caller: Any) -> None:
    refusals = problem_responses(401, 403, 404, 409, 413, 422, 503)

    @router.post("/{letter_id}/edit", responses=refusals)
    async def edit(letter_id: int, wanted: EditIn, principal: Principal = caller) -> LetterOut:
        """Change its content; it must be a whole event afterwards, with the same id."""
        value = None if wanted.value is None else wanted.value.encode()
        return _letter_out(
            await desk.edit(
                letter_id,
                who=principal.subject,
                headers=wanted.headers,
                value=value,
                seen=wanted.version,
            )
        )

    @router.post("/{letter_id}/replay", status_code=202, responses=refusals)
    async def replay(
        letter_id: int, wanted: DecisionIn, principal: Principal = caller
    ) -> LetterOut:
        """Send it once more to the group that gave up on it."""
        return _letter_out(await desk.replay(letter_id, who=principal.subject, seen=wanted.version))

    @router.post("/{letter_id}/discard", responses=refusals)
    async def discard(
        letter_id: int, wanted: DecisionIn, principal: Principal = caller
    ) -> LetterOut:
        """Give it up for good."""
        return _letter_out(
            await desk.discard(letter_id, who=principal.subject, seen=wanted.version)
        )


def _letter_out(kept: Kept) -> LetterOut:
    return LetterOut(**_fields(kept))


def _whole(kept: Kept, lines: list[AuditLine]) -> WholeLetter:
    letter = kept.letter
    return WholeLetter(
        **_fields(kept),
        headers=dict(letter.headers),
        value=as_text(letter.value),
        stack=letter.stack,
        audit=[_audit_out(line) for line in lines],
    )


def _audit_out(line: AuditLine) -> AuditOut:
    return AuditOut(at=line.at, who=line.who, what=line.what, before=line.before, after=line.after)


def _fields(kept: Kept) -> dict[str, Any]:
    letter = kept.letter
    return {
        "id": kept.id,
        "version": kept.version,
        "state": letter.state,
        "round": letter.round,
        "group": letter.group,
        "origin": str(letter.origin),
        "event_id": str(letter.event_id),
        "type": letter.type,
        "key": letter.key,
        "attempts": letter.attempts,
        "code": letter.code,
        "message": letter.message,
        "parked_at": kept.parked_at,
        "changed_at": kept.changed_at,
    }
