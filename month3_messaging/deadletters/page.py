"""The desk for people: a list, a letter with its audit, three buttons. HTML from the server alone.

A person signs in with a token of scope `desk`; it is kept in a cookie that no script reads and no
other site sends. What changes something must come from this page: a POST whose Origin is another
one, or is missing, is refused. Who is not signed in is shown the form to do so, with status 401.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from month3_messaging.deadletters.api import SCOPE
from month3_messaging.deadletters.desk import Desk
from month3_messaging.deadletters.letter import State
from month3_messaging.deadletters.letters_postgres import AuditLine, Kept, as_text
from scalelab.errors import Forbidden, InvalidInput, ScalelabError, Unauthenticated
from scalelab.security import Principal, TokenVerifier

COOKIE = "desk_token"
Clerk = Callable[[Request], Awaitable[Principal]]
"""Who asks; raises Unauthenticated or Forbidden."""
_ON_A_PAGE = 50

_SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3rem;"
    "text-align:left;vertical-align:top}pre,textarea{font:13px/1.4 monospace;width:100%;"
    "white-space:pre-wrap;overflow-wrap:anywhere}form{display:inline-block;margin:.5rem 1rem 0 0}"
    "form.wide{display:block}.error{color:#a00}"
)


def page_router(desk: Desk, verifier: TokenVerifier) -> APIRouter:
    """GET /desk, /desk/letters/{id}; POST its /edit, /replay, /discard; /desk/sign-in."""
    router = APIRouter(prefix="/desk", include_in_schema=False)

    async def clerk(request: Request) -> Principal:
        principal = await verifier.verify(request.cookies.get(COOKIE))
        if SCOPE not in principal.scopes:
            raise Forbidden(f"This needs the scope {SCOPE}.", code="insufficient_scope")
        return principal

    _add_sign_in(router, verifier)
    _add_pages(router, desk, clerk)
    _add_decisions(router, desk, clerk)
    return router


def _add_sign_in(router: APIRouter, verifier: TokenVerifier) -> None:
    @router.get("/sign-in")
    async def form() -> Response:
        return _page("Sign in", _SIGN_IN)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        token = (await _form(request)).get("token", "").strip()
        try:
            await verifier.verify(token)
        except ScalelabError as error:
            told = f'<p class="error">{escape(error.message)}</p>'
            return _page("Sign in", told + _SIGN_IN, status=401)
        answer = RedirectResponse("/desk", status_code=303)
        answer.set_cookie(COOKIE, token, path="/desk", httponly=True, samesite="strict")
        return answer


def _add_pages(router: APIRouter, desk: Desk, clerk: Clerk) -> None:
    async def shown_to_a_clerk(request: Request, show: Callable[[], Awaitable[str]]) -> Response:
        try:
            await clerk(request)
        except Unauthenticated:
            return _page("Sign in", _SIGN_IN, status=401)
        return _page("Dead letters", await show())

    @router.get("")
    async def letters(
        request: Request, state: State = State.PARKED, after: Annotated[int, Query(ge=0)] = 0
    ) -> Response:
        async def show() -> str:
            found = await desk.list(state, after=after, limit=_ON_A_PAGE + 1)
            return _list(found, state)

        return await shown_to_a_clerk(request, show)

    @router.get("/letters/{letter_id}")
    async def letter(request: Request, letter_id: int) -> Response:
        async def show() -> str:
            return _whole(*await desk.show(letter_id))

        return await shown_to_a_clerk(request, show)


def _add_decisions(router: APIRouter, desk: Desk, clerk: Clerk) -> None:
    asked = Depends(clerk)

    @router.post("/letters/{letter_id}/{what}")
    async def decide(
        letter_id: int,
        what: str,
        request: Request,
        principal: Principal = asked,  # pyright: ignore[reportArgumentType] - a Depends
    ) -> Response:
        form = await _form(request)
        seen = _version(form.get("version", ""))
        who = principal.subject
        try:
            match what:
                case "edit":
                    headers = _headers(form.get("headers", ""), (await desk.show(letter_id))[0])
                    value = form.get("value", "").replace("\r\n", "\n").encode()
                    await desk.edit(letter_id, who=who, headers=headers, value=value, seen=seen)
                case "replay":
                    await desk.replay(letter_id, who=who, seen=seen)
                case "discard":
                    await desk.discard(letter_id, who=who, seen=seen)
                case _:
                    raise InvalidInput("edit, replay or discard", field="what")
        except ScalelabError as error:
            kept, lines = await desk.show(letter_id)
            told = f'<p class="error">{escape(error.message)} ({escape(error.stable_code)})</p>'
            return _page("Dead letters", told + _whole(kept, lines), status=409)
        return RedirectResponse(f"/desk/letters/{letter_id}", status_code=303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form of ours. Raises Forbidden `foreign_form` for one from elsewhere."""
    if request.headers.get("origin") != f"{request.url.scheme}://{request.headers.get('host')}":
        raise Forbidden("This form did not come from the desk.", code="foreign_form")
    body = (await request.body()).decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput("a version is a number", field="version")
    return int(text)


def _headers(text: str, kept: Kept) -> dict[str, str | None]:
    """What the form's JSON object says; headers that it leaves out are taken away."""
    try:
        read: object = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the headers are not JSON: {error}", field="headers") from error
    if not isinstance(read, dict) or not all(isinstance(one, str) for one in read.values()):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        raise InvalidInput("the headers are an object of texts", field="headers")
    gone: dict[str, str | None] = dict.fromkeys(kept.letter.headers)
    return {**gone, **read}


def _page(title: str, body: str, status: int = 200) -> Response:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )
    return HTMLResponse(html, status, headers=_SECURITY)


def _list(letters: list[Kept], state: State) -> str:
    links = " · ".join(
        f"<b>{one}</b>" if one is state else f'<a href="/desk?state={one}">{one}</a>'
        for one in State
    )
    rows = "".join(
        f'<tr><td><a href="/desk/letters/{kept.id}">{kept.id}</a></td>'
        + _cells(
            kept.letter.group,
            kept.letter.type,
            kept.letter.key or "",
            kept.letter.origin,
            kept.letter.attempts,
            f"{kept.letter.code}: {kept.letter.message}",
            kept.parked_at.isoformat(timespec="seconds"),
        )
        + "</tr>"
        for kept in letters[:_ON_A_PAGE]
    )
    names = ("id", "group", "type", "key", "origin", "tries", "cause", "parked")
    head = "".join(f"<th>{name}</th>" for name in names)
    table = f"<table><tr>{head}</tr>{rows}</table>" if rows else f"<p>None is {state}.</p>"
    last = letters[_ON_A_PAGE - 1].id if len(letters) > _ON_A_PAGE else None
    more = f'<p><a href="/desk?state={state}&after={last}">more</a></p>' if last else ""
    return f"<p>{links}</p>{table}{more}"


def _whole(kept: Kept, lines: list[AuditLine]) -> str:
    letter = kept.letter
    facts = {
        "state": letter.state,
        "group": letter.group,
        "origin": letter.origin,
        "event id": letter.event_id,
        "key": letter.key,
        "tries": letter.attempts,
        "replays": letter.round,
        "cause": f"{letter.code}: {letter.message}",
    }
    shown = "".join(f"<tr><th>{name}</th>{_cells(value)}</tr>" for name, value in facts.items())
    audit = "".join(
        "<tr>"
        + _cells(line.at.isoformat(timespec="seconds"), line.who, line.what)
        + f"<td><pre>{_json(line.before)}</pre></td><td><pre>{_json(line.after)}</pre></td></tr>"
        for line in lines
    )
    return (
        f'<p><a href="/desk">All letters</a> · letter {kept.id}</p>'
        f"<table>{shown}</table><h2>Content</h2>{_content(kept)}<h2>Stack</h2>"
        f"<pre>{escape(letter.stack)}</pre><h2>Audit</h2>"
        f"<table><tr><th>at<th>who<th>what<th>before<th>after</tr>{audit}</table>"
    )


def _content(kept: Kept) -> str:
    letter = kept.letter
    value = as_text(letter.value)
    text = escape(value if isinstance(value, str) else json.dumps(value))
    headers = _json(dict(letter.headers))
    if letter.state is not State.PARKED:
        return f"<pre>{headers}</pre><pre>{text}</pre>"
    base = f"/desk/letters/{kept.id}"
    version = f'<input type="hidden" name="version" value="{kept.version}">'
    buttons = "".join(
        f'<form method="post" action="{base}/{what}">{version}<button>{what}</button></form>'
        for what in ("replay", "discard")
    )
    return (
        f'<form class="wide" method="post" action="{base}/edit">{version}'
        f'<label>Headers<textarea name="headers" rows="12">{headers}</textarea></label>'
        f'<label>Value<textarea name="value" rows="8">\n{text}</textarea></label>'
        f"<button>save</button></form>{buttons}"
    )


def _cells(*values: object) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in values)


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=1, ensure_ascii=False))


_SIGN_IN = (
    '<form class="wide" method="post" action="/desk/sign-in"><label>A token of scope desk'
    '<textarea name="token" rows="5" required></textarea></label><button>sign in</button></form>'
)
