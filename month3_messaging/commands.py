"""The month's commands: `./lab month3 token`, `orders`, `books`, `deadletters`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from scalelab.lab.cli.outcome import emit_json, say
from scalelab.lab.cli.running import port_of, run, running

if TYPE_CHECKING:
    from month3_messaging.orderload import Placed
    from scalelab.lab.supervisor.state import StackPaths

app = typer.Typer()
month3 = typer.Typer(
    name="month3",
    help="The messaging month: tokens, orders to watch, the partners' books, dead letters.",
    no_args_is_help=True,
)
app.add_typer(month3, rich_help_panel="Stacks")
deadletters = typer.Typer(
    name="deadletters",
    help="Events that a consumer gave up on: look at them, edit, replay or discard them.",
    no_args_is_help=True,
)
month3.add_typer(deadletters)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@month3.command()
def token(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="Whose token.")] = "demo",
    ttl_s: Annotated[float, typer.Option(min=1, max=86_400, help="How long it lives.")] = 3600.0,
    scope: Annotated[
        str, typer.Option(help="shop for the orders, desk for dead letters.")
    ] = "shop",
) -> None:
    """Print a token for the running stack's orders API, or for its dead-letter desk.

    Example:  curl -H "Authorization: Bearer $(./lab month3 token)" 127.0.0.1:8301/api/v1/orders
    """
    say(_token(running(context, 3), subject, ttl_s, scope))


@month3.command()
def orders(
    context: typer.Context,
    number: Annotated[int, typer.Argument(min=1, max=100_000, help="How many.")] = 100,
    wait_s: Annotated[float, typer.Option(min=0, help="How long to follow them.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Place orders at the running stack, follow them to their ends, and compare the books.

    A tenth is paid with a card that is declined. Meanwhile kill what you like:
    `./lab status` names the processes, and each comes back by itself.
    """
    paths = running(context, 3)
    bearer = _token(paths, "load", 3600.0)
    placed = run(_place_and_follow(paths, bearer, number, wait_s))
    kept = run(_books(paths))
    ends = Counter(placed.ends.values())
    if as_json:
        told: dict[str, Any] = {
            "accepted": len(placed.accepted),
            "refused": dict(placed.refused),
            "ends": dict(ends),
            "open": len(placed.still_open),
            "confirmed_minor": placed.confirmed_minor,
            "books": kept,
        }
        emit_json(told)
        return
    say(
        f"{len(placed.accepted)} accepted, {placed.refused.total()} refused,"
        f" {len(placed.still_open)} still open"
    )
    for status, many in sorted(ends.items()):
        say(f"  {status}: {many}")
    balanced = "equal" if kept["taken"] == kept["promised"] else "NOT EQUAL"
    say(f"pieces taken {kept['taken']}, promised {kept['promised']}: {balanced}")


@month3.command()
def books(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show what the partners kept: money captured and not given back, pieces taken, promised."""
    told = run(_books(running(context, 3)))
    if as_json:
        emit_json(told)
        return
    for name, value in told.items():
        say(f"{name}: {value}")


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
    bearer = {"Authorization": f"Bearer {_token(paths, who, 60.0, 'desk')}"}

    async def call() -> Any:
        from scalelab.clients.http import HttpClient

        async with HttpClient(_url(paths, "desk"), timeout_s=30.0) as http:
            whole = f"/api/v1/letters{path}"
            if body is None:
                return (await http.get(whole, headers=bearer)).json()
            return (await http.post(whole, body, headers=bearer)).json()

    return run(call())


async def _place_and_follow(paths: StackPaths, bearer: str, number: int, wait_s: float) -> Placed:
    from random import SystemRandom

    from month3_messaging.orderload import follow, place_orders
    from scalelab.clients.http import HttpClient

    async with HttpClient(_url(paths, "orders"), timeout_s=30.0) as http:
        with _bar("orders placed", number) as told:
            placed = await place_orders(
                http, bearer, number, products=100, random=SystemRandom(), told=told
            )
        await follow(http, bearer, placed, within_s=wait_s)
    return placed


async def _books(paths: StackPaths) -> dict[str, int]:
    from scalelab.clients.http import HttpClient

    async with HttpClient(_url(paths, "partners"), timeout_s=30.0) as http:
        return (await http.get("/internal/v1/books")).json()


def _token(paths: StackPaths, subject: str, ttl_s: float, scope: str = "shop") -> str:
    from month3_messaging.stack import key_path
    from month3_messaging.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
    from scalelab.clock import SystemClock
    from scalelab.issuer import demo_token

    return demo_token(
        key_path(paths.folder),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=[scope],
        ttl_s=ttl_s,
        clock=SystemClock(),
    )


def _url(paths: StackPaths, process: str) -> str:
    return f"http://127.0.0.1:{port_of(paths, process)}"


@contextmanager
def _bar(what: str, number: int) -> Generator[Callable[[], None], None, None]:
    """A progress bar on standard error; yields what moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=number)
        yield lambda: progress.advance(task)
