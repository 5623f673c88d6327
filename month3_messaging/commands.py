"""The month's commands: `./lab month3 token`, `orders`, `books`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalelab.lab.cli.outcome import emit_json, say
from scalelab.lab.cli.running import port_of, run, running

if TYPE_CHECKING:
    from month3_messaging.orderload import Placed
    from scalelab.lab.supervisor.state import StackPaths

app = typer.Typer()
month3 = typer.Typer(
    name="month3",
    help="The messaging month: tokens, orders to watch, the partners' books.",
    no_args_is_help=True,
)
app.add_typer(month3, rich_help_panel="Stacks")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@month3.command()
def token(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="Whose token.")] = "demo",
    ttl_s: Annotated[float, typer.Option(min=1, max=86_400, help="How long it lives.")] = 3600.0,
) -> None:
    """Print a token for the running stack's orders API.

    Example:  curl -H "Authorization: Bearer $(./lab month3 token)" 127.0.0.1:8301/api/v1/orders
    """
    say(_token(running(context, 3), subject, ttl_s))


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


def _token(paths: StackPaths, subject: str, ttl_s: float) -> str:
    from month3_messaging.stack import key_path
    from month3_messaging.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
    from scalelab.clock import SystemClock
    from scalelab.issuer import demo_token

    return demo_token(
        key_path(paths.folder),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=["shop"],
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
