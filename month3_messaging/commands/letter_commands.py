"""`./lab month3 deadletters …`: the desk of the running stack."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from month3_messaging.commands.places import JsonFlag, token_for, url_of
from scalelab.lab.cli.outcome import emit_json, say
from scalelab.lab.cli.running import run, running

_AT_ONCE = 500

deadletters = typer.Typer(
    name="deadletters",
    help="Events that a consumer gave up on: look at them, edit, replay or discard them.",
    no_args_is_help=True,
)

LetterId = Annotated[int, typer.Argument(min=1, help="The letter's id, as `list` shows it.")]
Who = Annotated[str, typer.Option(help="Your name, for the audit.")]


@deadletters.command("list")
def list_letters(
    context: typer.Context,
    state: Annotated[str, typer.Option(help="parked, replaying, replayed, discarded.")] = "parked",
    after: Annotated[int, typer.Option(min=0, help="Only ids over this.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """List letters: 50 at a time, oldest first."""
    found = _at_the_desk(context, f"?state={quote(state)}&after={after}")
    if as_json:
        emit_json(found)
        return
    for letter in found:
        say(
            f"{letter['id']:>6}  {letter['group']}  {letter['type'] or '?'}  {letter['origin']}"
            f"  {letter['attempts']} tries  {letter['code']}: {letter['message']}"
        )
    say(f"{len(found)} {state}")


@deadletters.command()
def show(context: typer.Context, letter_id: LetterId, as_json: JsonFlag = False) -> None:
    """Show a letter: content, cause, stack, and what was done to it."""
    found = _at_the_desk(context, f"/{letter_id}")
    if as_json:
        emit_json(found)
        return
    audit = found.pop("audit")
    for name, value in found.items():
        say(f"{name}: {value}")
    for line in audit:
        say(f"{line['at']}  {line['who']}  {line['what']}")


@deadletters.command()
def edit(
    context: typer.Context,
    letter_id: LetterId,
    value: Annotated[str | None, typer.Option(help="The event's new JSON.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME=TEXT; NAME= drops it.")] = None,
    who: Who = "operator",
    as_json: JsonFlag = False,
) -> None:
    """Change what a parked letter holds; it must be a whole event, and its id stays."""
    headers: dict[str, str | None] = {}
    for one in header or []:
        name, _, text = one.partition("=")
        headers[name] = text or None
    _decide(context, letter_id, "edit", who, as_json, {"headers": headers, "value": value})


@deadletters.command()
def replay(
    context: typer.Context, letter_id: LetterId, who: Who = "operator", as_json: JsonFlag = False
) -> None:
    """Send a letter's event once more to the group that gave up on it."""
    _decide(context, letter_id, "replay", who, as_json)


@deadletters.command()
def discard(
    context: typer.Context, letter_id: LetterId, who: Who = "operator", as_json: JsonFlag = False
) -> None:
    """Give a letter up for good; it can still be looked at."""
    _decide(context, letter_id, "discard", who, as_json)


@deadletters.command()
def audit(context: typer.Context, letter_id: LetterId, as_json: JsonFlag = False) -> None:
    """Show what was done to a letter, by whom and when; also of one that was cleaned away."""
    lines = _at_the_desk(context, f"/{letter_id}/audit")
    if as_json:
        emit_json(lines)
        return
    for line in lines:
        say(f"{line['at']}  {line['who']}  {line['what']}")


@deadletters.command()
def clean(
    context: typer.Context,
    older_than_days: Annotated[
        float, typer.Option(min=1, help="Since their last change; younger ones stay.")
    ] = 90.0,
    who: Who = "operator",
    as_json: JsonFlag = False,
) -> None:
    """Clean away letters that were replayed or discarded long ago; those that wait all stay."""
    body = {"older_than_s": older_than_days * 86_400, "limit": _AT_ONCE}
    cleaned = 0
    while True:
        some = _at_the_desk(context, "/clean", body, who=who)["cleaned"]
        cleaned += some
        if some < _AT_ONCE:
            break
    if as_json:
        emit_json({"cleaned": cleaned})
    else:
        say(f"{cleaned} letters cleaned away; their audit stays")


def _decide(
    context: typer.Context,
    letter_id: int,
    what: str,
    who: str,
    as_json: bool,
    content: dict[str, Any] | None = None,
) -> None:
    """Look at the letter, decide on that version, and say where it stands."""
    version = _at_the_desk(context, f"/{letter_id}")["version"]
    body = {"version": version, **(content or {})}
    letter = _at_the_desk(context, f"/{letter_id}/{what}", body, who=who)
    if as_json:
        emit_json(letter)
    else:
        say(f"letter {letter_id} is {letter['state']}, version {letter['version']}")


def _at_the_desk(
    context: typer.Context, path: str, body: object = None, *, who: str = "operator"
) -> Any:
    paths = running(context, 3)
    bearer = {"Authorization": f"Bearer {token_for(paths, who, 60.0, 'desk')}"}

    async def call() -> Any:
        from scalelab.clients.http import HttpClient

        async with HttpClient(url_of(paths, "desk"), timeout_s=30.0) as http:
            whole = f"/api/v1/letters{path}"
            if body is None:
                return (await http.get(whole, headers=bearer)).json()
            return (await http.post(whole, body, headers=bearer)).json()

    return run(call())
