"""`./lab month6 …`: which shard has which slots of the orders, and moving them while it sells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from month6_capstone.commands.shop import JsonFlag, open_shop
from scalelab.lab.cli.outcome import CommandFailed, Exit, tell
from scalelab.lab.cli.place import root_of
from scalelab.lab.cli.running import run

if TYPE_CHECKING:
    from month2_databases.resharding import MoverSettings

month6 = typer.Typer(
    name="month6",
    help="The running shop's shards of orders: who has which slots, and moving them.",
    no_args_is_help=True,
)

_NameOfMove = Annotated[str, typer.Argument(help="The move, as `shards` lists it.")]


@month6.command()
def shards(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the shard map of the running shop, what the shards say themselves, and all moves."""
    from month2_databases.resharding import lines_of_shards, shards_and_moves

    tell(run(shards_and_moves(_mover(context))), lines_of_shards, as_json=as_json)


@month6.command()
def move(
    context: typer.Context,
    slots: Annotated[str, typer.Argument(help="As `0-31,40`; all of one shard.")],
    target: Annotated[str, typer.Argument(help="The shard that gets them.")],
    rows_per_s: Annotated[float, typer.Option(min=0, help="The most to copy; 0: all speed.")] = 0.0,
    as_json: JsonFlag = False,
) -> None:
    """Move slots of the orders to the other shard while the shop sells; nothing is lost.

    Order, history, saga, inbox and keys go together; the slots' events leave first.

    Examples:  ./lab month6 move 0-31 shard-1   ·   ./lab month6 move 200 shard-0 --json
    """
    from month2_databases.resharding import lines_of_move, move_slots

    settings = _mover(context).model_copy(update={"rows_per_s": rows_per_s})
    tell(run(move_slots(settings, slots, target)), lines_of_move, as_json=as_json)


@month6.command()
def resume(context: typer.Context, name: _NameOfMove, as_json: JsonFlag = False) -> None:
    """Carry a move on from where its last process left it."""
    from month2_databases.resharding import lines_of_move, resume_move

    tell(run(resume_move(_mover(context), name)), lines_of_move, as_json=as_json)


@month6.command()
def abort(context: typer.Context, name: _NameOfMove, as_json: JsonFlag = False) -> None:
    """Take a move back; refused once the target has the slots."""
    from month2_databases.resharding import abort_move, lines_of_move

    tell(run(abort_move(_mover(context), name)), lines_of_move, as_json=as_json)


def _mover(context: typer.Context) -> MoverSettings:
    """The running shop's shards as their administrator reaches them."""
    from month6_capstone.stack import mover_settings

    folder = open_shop(root_of(context))
    try:
        return mover_settings(folder)
    except (OSError, ValueError, KeyError) as error:
        raise CommandFailed(
            f"The description of the shop in {folder} cannot be read: {error!r}.", Exit.USAGE
        ) from error
