"""Slots: where they are, moving them, orders to move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from month2_databases.commands.running_stack import JsonFlag, description, folder
from scalelab.lab.cli.outcome import say, tell
from scalelab.lab.cli.running import run

if TYPE_CHECKING:
    from month2_databases.resharding import MoverSettings


def shards(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the shard map of the running stack, what the shards say themselves, and all moves."""
    from month2_databases.resharding import lines_of_shards, shards_and_moves

    tell(run(shards_and_moves(_mover(context))), lines_of_shards, as_json=as_json)


def move(
    context: typer.Context,
    slots: Annotated[str, typer.Argument(help="As `0-31,40`; all of one shard.")],
    target: Annotated[str, typer.Argument(help="The shard that gets them.")],
    rows_per_s: Annotated[float, typer.Option(min=0, help="The most to copy; 0: all speed.")] = 0.0,
    as_json: JsonFlag = False,
) -> None:
    """Move slots to another server while orders go on; `resume NAME` carries on after a kill.

    Examples:  ./lab month2 move 0-63 shard-2   ·   ./lab month2 move 200 shard-2 --rows-per-s 500
    """
    from month2_databases.resharding import lines_of_move, move_slots

    settings = _mover(context).model_copy(update={"rows_per_s": rows_per_s})
    tell(run(move_slots(settings, slots, target)), lines_of_move, as_json=as_json)


def resume(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The move, as `shards` lists it.")],
    as_json: JsonFlag = False,
) -> None:
    """Carry a move on from where its last process left it."""
    from month2_databases.resharding import lines_of_move, resume_move

    tell(run(resume_move(_mover(context), name)), lines_of_move, as_json=as_json)


def abort(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The move, as `shards` lists it.")],
    as_json: JsonFlag = False,
) -> None:
    """Take a move back; refused once the target has the slots."""
    from month2_databases.resharding import abort_move, lines_of_move

    tell(run(abort_move(_mover(context), name)), lines_of_move, as_json=as_json)


def orders(
    context: typer.Context,
    number: Annotated[int, typer.Argument(min=1, max=100_000, help="How many.")] = 1000,
    users: Annotated[int, typer.Option(min=1, max=10_000, help="Of how many users.")] = 200,
) -> None:
    """Place orders of many users at the running order book, so that there is something to move."""
    from month2_databases.orderload import place_orders

    url = description(context)["urls"]["orderbook"]
    placed = run(place_orders(url, number, users))
    say(f"{placed.stored} orders stored, {placed.refused} refused, over {placed.shards} shards.")


def _mover(context: typer.Context) -> MoverSettings:
    """The running stack's shards as their administrator reaches them."""
    from month2_databases.stack import mover_settings

    description(context)
    return mover_settings(folder(context))
