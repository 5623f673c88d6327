"""The month's commands: `./lab month1 token`, `routes`, `seed`, `purge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, Exit, emit_json, say
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    from scalelab.lab.supervisor.state import StackPaths

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
        key_path(_running(context).folder),
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

    say(routes_path(_running(context).folder).read_text(encoding="utf-8").rstrip())


@month1.command()
def seed(
    context: typer.Context,
    products: Annotated[int, typer.Argument(min=1, max=100_000, help="How many in all.")] = 5000,
) -> None:
    """Have at least so many products in the running stack's catalogue; those there stay."""
    import asyncio

    from month1_caching_gateway.catalog import fill
    from month1_caching_gateway.stack import read_database_dsn

    new = asyncio.run(fill(read_database_dsn(_running(context).folder), products, 1))
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

    paths = _running(context)
    token = (paths.folder / "secrets" / PURGE_TOKEN).read_text(encoding="ascii")
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{_port(paths, 'purge')}/purge",
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


def _port(paths: StackPaths, process: str) -> int:
    """Where a process of the running stack listens. Raises CommandFailed if it is not there."""
    from scalelab.lab.supervisor.state import read

    state = read(paths.state)
    for one in state.processes if state else ():
        if one.name == process and one.port:
            return one.port
    raise CommandFailed(f"This stack has no {process}: see ./lab status.", Exit.USAGE)


def _running(context: typer.Context) -> StackPaths:
    """Where the stack of this month runs. Raises CommandFailed if it does not."""
    from scalelab.lab.supervisor.control import is_running
    from scalelab.lab.supervisor.state import StackPaths

    root: Path = root_of(context)
    paths = StackPaths(root, "month1")
    if not is_running(paths):
        raise CommandFailed(
            "The stack of month 1 is not running. Try: ./lab up month1.", Exit.USAGE
        )
    return paths
