"""`./lab simulate`: clusters under virtual time, seed by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, say

if TYPE_CHECKING:
    from month5_kvstore.simulation import Plan
    from month5_kvstore.simulation.planting import Run
    from month5_kvstore.simulation.world import Observer


@dataclass(frozen=True, slots=True)
class _Broken:
    plan: Plan
    run: Run


def simulate(
    seeds: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many, from --seed on.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first one.")] = 0,
    seconds: Annotated[int, typer.Option(min=4, max=600, help="Virtual seconds a seed.")] = 6,
    bug: Annotated[str, typer.Option(help="Plant this mistake of the zoo; `list` names all.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Print the whole story of --seed.")] = False,
    step: Annotated[bool, typer.Option("--step", help="Walk through the story.")] = False,
) -> None:
    """Run Raft clusters through bad days and judge what clients saw.

    The same seed gives the same trace hash everywhere. A seed that breaks a rule is shrunk to a
    short story and told as a message diagram; the exit code is 1.

    Examples:  ./lab simulate --seeds 300   ·   ./lab simulate --seeds 20 --bug "votes twice" --step
    """
    from month5_kvstore.simulation import draw

    if bug == "list":
        from month5_kvstore.simulation.zoo import BUGS

        say("\n".join(each.name for each in BUGS))
        return
    play = _player(bug)
    broken: _Broken | None = None
    with typer.progressbar(range(seed, seed + seeds), label="seeds", hidden=seeds == 1) as bar:
        for number in bar:
            plan = draw(number, duration_us=seconds * 1_000_000)
            run = play(plan, None)
            if run.rule is not None:
                broken = _Broken(plan, run)
                break
            if seeds == 1:
                say(f"seed {number}: every rule holds; trace {run.hash}")
                if show or step:
                    _tell(plan, play, step=step)
    if broken is not None:
        _explain(broken, play, step=step)
        raise CommandFailed(f"seed {broken.plan.seed} breaks a rule: {broken.run.rule}")
    if seeds > 1:
        say(f"{seeds} seeds of {seconds} virtual seconds: every rule holds")


def _player(bug: str) -> Callable[[Plan, Observer | None], Run]:
    """What runs a plan: the true core, or a copy with the one mistake whose name has `bug`."""
    from month5_kvstore.experiments.judging import judge

    if not bug:
        from month5_kvstore.simulation import simulate as true_core

        return lambda plan, observer: true_core(plan, judge, observer=observer)
    from month5_kvstore.simulation.planting import Planted
    from month5_kvstore.simulation.zoo import named

    mistake = named(bug)
    copy = Planted(mistake.file, mistake.before, mistake.after)
    return lambda plan, observer: copy.simulate(plan, judge, observer)


def _explain(broken: _Broken, play: Callable[[Plan, Observer | None], Run], *, step: bool) -> None:
    from month5_kvstore.simulation.shrinking import shrink

    plan = broken.plan
    say(f"seed {plan.seed}: {broken.run.rule}: {broken.run.detail}")
    short = shrink(plan, lambda candidate: play(candidate, None).rule == broken.run.rule)
    say(
        f"shrunk from {len(plan.faults)} faults, {len(plan.acts)} acts and {len(plan.calls)} calls "
        f"to {len(short.faults)}, {len(short.acts)} and {len(short.calls)}"
    )
    _tell(short, play, step=step)


def _tell(plan: Plan, play: Callable[[Plan, Observer | None], Run], *, step: bool) -> None:
    from month5_kvstore.simulation.story import Story

    story = Story(plan.nodes)
    run = play(plan, story.hear)
    if step:
        _walk(story.head, story.lines)
    else:
        say("\n".join((story.head, *story.lines)))
    say(f"trace {run.hash}")


def _walk(head: str, lines: list[str]) -> None:
    """A small loop: Enter goes on, `b` back, a number there, `q` ends."""
    at, shown = 0, 12
    while lines:
        say("\n".join((head, *lines[max(0, at - shown + 1) : at + 1])))
        word = typer.prompt(
            f"{at + 1} of {len(lines)} [Enter, b, number, q]", default="", show_default=False
        )
        if word == "q":
            return
        if word.isdecimal():
            at = int(word) - 1
        else:
            at += -1 if word == "b" else 1
        at = max(0, min(at, len(lines) - 1))
