"""`./lab month3 token`, `orders`, `books`, `invoices`, `relay`: the running stack, looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from month3_messaging.commands.places import JsonFlag, token_for, url_of
from scalelab.lab.cli.outcome import emit_json, say
from scalelab.lab.cli.running import run, running

if TYPE_CHECKING:
    from month3_messaging.orderload import Placed
    from scalelab.lab.supervisor.state import StackPaths

month3 = typer.Typer(
    name="month3",
    help="The messaging month: tokens, orders to watch, the partners' books, invoices, letters.",
    no_args_is_help=True,
)


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
    say(token_for(running(context, 3), subject, ttl_s, scope))


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
    bearer = token_for(paths, "load", 3600.0)
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


@month3.command()
def invoices(
    context: typer.Context,
    last: Annotated[int, typer.Option(min=1, max=1000, help="So many of the newest.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show what the background jobs made of confirmed orders: invoices, and mails received.

    The mails lie in the stack's folder `mails`, one file each, the PDF inside.
    """
    told = run(_invoices(running(context, 3), last))
    if as_json:
        emit_json(told)
        return
    say(", ".join(f"{many} {state}" for state, many in told["jobs"].items()))
    for one in told["invoices"]:
        mails = one["mails"]
        said = f"{mails} mail{'' if mails == 1 else 's'} received" if mails else one["state"]
        say(f"  INV-{one['number']:06}  order {one['order_id']}  {said}")


@month3.command()
def relay(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show how the orders' events leave: off the database's log or off the table, what waits.

    `ORDERS_WORKER_RELAY=log ./lab up month3` starts the stack with the relay that follows the log.
    """
    told = run(_relay(running(context, 3)))
    if as_json:
        emit_json(told)
        return
    for name, value in told.items():
        say(f"{name}: {value}")


async def _place_and_follow(paths: StackPaths, bearer: str, number: int, wait_s: float) -> Placed:
    from random import SystemRandom

    from month3_messaging.orderload import follow, place_orders
    from scalelab.clients.http import HttpClient

    async with HttpClient(url_of(paths, "orders"), timeout_s=30.0) as http:
        with _bar("orders placed", number) as told:
            placed = await place_orders(
                http, bearer, number, products=100, random=SystemRandom(), told=told
            )
        await follow(http, bearer, placed, within_s=wait_s)
    return placed


async def _books(paths: StackPaths) -> dict[str, int]:
    from scalelab.clients.http import HttpClient

    async with HttpClient(url_of(paths, "partners"), timeout_s=30.0) as http:
        return (await http.get("/internal/v1/books")).json()


async def _invoices(paths: StackPaths, last: int) -> dict[str, Any]:
    """{"jobs": counts by state, "invoices": the last ones, each with how many mails came of it}"""
    from scalelab.clients.http import HttpClient

    async with (
        HttpClient(url_of(paths, "jobs"), timeout_s=30.0) as jobs,
        HttpClient(url_of(paths, "mail"), timeout_s=30.0) as sink,
    ):
        counted = (await jobs.get("/internal/v1/jobs")).json()
        after = max(0, counted["last_number"] - last)
        found = (await jobs.get(f"/internal/v1/invoices?after={after}&limit={last}")).json()
        received: Counter[str] = Counter()
        number = 0
        while page := (await sink.get(f"/mails?after={number}")).json():
            number = page[-1]["number"]
            received.update(mail["message_id"].partition("@")[0] for mail in page)
    for one in found:
        one["mails"] = received[f"<invoice.{one['order_id']}"]
    return {"jobs": counted["states"], "invoices": found}


async def _relay(paths: StackPaths) -> dict[str, Any]:
    """{"reads": "log" or "table", "unsent": …, "sent": …, "slots_lost": …, "slot_kept_bytes": …}"""
    from prometheus_client.parser import text_string_to_metric_families

    from scalelab.clients.http import HttpClient

    async with HttpClient(url_of(paths, "orders-worker"), timeout_s=30.0) as http:
        text = (await http.get("/metrics")).body.decode()
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("database") == "orders"
    }

    def number(name: str) -> int:
        return int(values.get(f"scalelab_outbox_{name}", 0))

    return {
        "reads": "log" if number("following_log") else "table",
        "unsent": number("unsent_rows"),
        "sent": number("sent_total"),
        "slots_lost": number("slots_lost_total"),
        "slot_kept_bytes": number("slot_kept_bytes"),
    }


@contextmanager
def _bar(what: str, number: int) -> Generator[Callable[[], None], None, None]:
    """A progress bar on standard error; yields what moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=number)
        yield lambda: progress.advance(task)
