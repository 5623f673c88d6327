"""The month's commands: `./lab month1 token`, `routes`, `seed`, `purge`."""

from __future__ import annotations

from typing import Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, emit_json, say
from scalelab.lab.cli.running import port_of, running

app = typer.Typer()
month1 = typer.Typer(
    name="month1",
    help="The gateway month: a token for its stack, its routes, more products.",
    no_args_is_help=True,
)
app.add_typer(month1, rich_help_panel="Stacks")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@month1.command()
def token(
    context: typer.Context,
    subject: Annotated[str, typer.Option(help="Whom the token names.")] = "keeper@example.com",
    scope: Annotated[
        list[str] | None, typer.Option(help="What it allows: admin (writes), shop. Repeatable.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long it is good.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Print a token for the running stack, signed with its key; by default one that may write.

    Examples:  TOKEN=$(./lab month1 token)   ·   ./lab month1 token --scope shop --minutes 5
    """
    from month1_caching_gateway.stack import key_path
    from month1_caching_gateway.topology import KEEPER_SCOPE, TOKEN_AUDIENCE, TOKEN_ISSUER
    from scalelab.clock import SystemClock
    from scalelab.issuer import demo_token

    scopes = scope or [KEEPER_SCOPE]
    word = demo_token(
        key_path(running(context, 1).folder),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=scopes,
        ttl_s=minutes * 60.0,
        clock=SystemClock(),
    )
    if as_json:
        emit_json({"token": word, "subject": subject, "scopes": scopes, "minutes": minutes})
    else:
        say(word)


@month1.command()
def routes(context: typer.Context) -> None:
    """Print the routes that the running stack's gateway was given."""
    from month1_caching_gateway.stack import routes_path

    say(routes_path(running(context, 1).folder).read_text(encoding="utf-8").rstrip())


@month1.command()
def seed(
    context: typer.Context,
    products: Annotated[int, typer.Argument(min=1, max=100_000, help="How many in all.")] = 5000,
) -> None:
    """Have at least so many products in the running stack's catalogue; those there stay."""
    import asyncio

    from month1_caching_gateway.catalog import fill
    from month1_caching_gateway.stack import read_database_dsn

    new = asyncio.run(fill(read_database_dsn(running(context, 1).folder), products, 1))
    say(f"{new} products are new.")


@month1.command()
def purge(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A path with its query, as a reader asks for it.")],
    prefix: Annotated[bool, typer.Option("--prefix", help="Everything that begins so.")] = False,
) -> None:
    """Have both edges of the running stack forget an answer, or all that begin alike.

    Examples:  ./lab month1 purge '/api/v2/products?limit=3'   ·   ./lab month1 purge /api/ --prefix
    """
    import httpx

    from month1_caching_gateway.stack import PURGE_TOKEN

    paths = running(context, 1)
    token = (paths.folder / "secrets" / PURGE_TOKEN).read_text(encoding="ascii")
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{port_of(paths, 'purge')}/purge",
            json={"target": target, "prefix": prefix},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30.0,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(f"The purge service did not answer: {error}.") from error
    told = answer.json()
    if answer.status_code != 200:
        why = "; ".join(one["message"] for one in told.get("errors", [])) or told["detail"]
        raise CommandFailed(f"The purge service refused: {why}")
    for edge, removed in told["removed"].items():
        say(f"{edge}: {removed} answers forgotten.")
