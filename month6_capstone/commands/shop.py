"""`./lab demo` and `./lab verify`."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.errors import Unavailable
from scalelab.lab.cli.outcome import CommandFailed, Exit, emit_json, note, say, show_table
from scalelab.lab.cli.place import root_of
from scalelab.lab.cli.runs import discard, held, new_run, open_runs

if TYPE_CHECKING:
    from collections.abc import Generator

    from month6_capstone.demo import Outcome
    from month6_capstone.stack import Shop

_KEPT = ("report.json", "logs", "client.jsonl")
"""What stays of a green run: what people come back for."""

app = typer.Typer()

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command(rich_help_panel="Start here")
def demo(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="End after the report; private ports.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides shoppers, cards and baskets.")] = 1,
    seconds: Annotated[float, typer.Option(min=5, help="How long shoppers arrive.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.5, max=500, help="Orders a second.")] = 15.0,
    monolith: Annotated[
        bool, typer.Option("--monolith", help="The same code in one process.")
    ] = False,
    fault: Annotated[bool, typer.Option(help="Kill a worker halfway.")] = True,
    host: Annotated[str, typer.Option(help="Where the front door listens.")] = "127.0.0.1",
    as_json: JsonFlag = False,
) -> None:
    """Start the shop, send shoppers, kill a worker, prove that the books balance; stay open.

    Everything runs on this machine, on real servers, in .lab/runs. A minute until the report;
    then the shop serves you until Ctrl-C, unless --once. Exit code 1 if the books do not balance;
    the run's folder then keeps everything, with the ids that disagree.

    Examples:  ./lab demo   ·   ./lab demo --once --seed 7 --json   ·   ./lab demo --monolith
    """
    from month6_capstone.demo import DemoOptions, Watch, begin, sell_and_judge
    from scalelab.clock import SystemClock

    clock = SystemClock()
    since_s = clock.monotonic_s() - _process_age_s()
    options = DemoOptions(
        seed=seed,
        seconds=seconds,
        orders_per_s=rate,
        monolith=monolith,
        fault=fault,
        front_host=host,
    )
    root = root_of(context)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = new_run(root, f"{stamp}-seed{seed}")
    _end_like_ctrl_c()
    with _tidy_if_interrupted(folder), held(folder), Watch(options) as watch:
        watch.announce(f"a new shop on real servers, in {folder.relative_to(root)}")
        watch.announce("takes about half a minute; longer when a server must be fetched first")
        runtime, shop = begin(folder, options, watch.hooks, private=once)
        with runtime:
            outcome = sell_and_judge(shop, options, watch.hooks, since_s=since_s, clock=clock)
            watch.rest()
            data = runtime.data
            _show(outcome, shop, as_json=as_json)
            if not once and outcome.report.green:
                _serve(shop, table=not as_json)
    conclude(outcome, data)
    if once:
        note("Next: ./lab demo keeps the shop open for your own requests.")


def conclude(outcome: Outcome, data: Path) -> None:
    """End a run whose servers have stopped: a green one keeps its report and logs only.

    data: where the servers' data stand. Raises CommandFailed, with the folder that keeps
    everything, if the run was red.
    """
    if not outcome.report.green:
        raise CommandFailed(
            f"The books do not balance; logs, the client log and the report are in "
            f"{outcome.folder}, the servers' data in {data}."
        )
    discard(outcome.folder, keep=_KEPT)


@app.command(rich_help_panel="Stacks")
def verify(
    context: typer.Context,
    run: Annotated[Path | None, typer.Option(help="A run's folder; default: what runs.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Reconcile every store of a running shop: clients, orders, ledger, provider, stock, events.

    The shop of ./lab up month6, or the one that ./lab demo keeps open. Run it when the shop is
    quiet: an order that is still on its way is reported. Exit code 1 if anything disagrees.

    Examples:  ./lab up month6 && ./lab verify   ·   ./lab verify --json
    """
    from month6_capstone.stack import description_path
    from month6_capstone.truth import read_description, reconcile

    folder = run or open_shop(root_of(context))
    description = description_path(folder)
    if not description.is_file():
        raise CommandFailed(_why_not(folder), Exit.USAGE)
    log = folder / "client.jsonl"
    try:
        report = reconcile(read_description(description, client_log=log if log.is_file() else None))
    except Unavailable as error:
        raise CommandFailed(
            f"The shop of {folder} does not answer, so there is nothing to reconcile: {error} "
            "Try: ./lab status; a demo's shop is there until Ctrl-C."
        ) from error
    if as_json:
        emit_json(report.as_json())
    else:
        show_table(("rule", "looked at"), report.checked.items(), title="verify")
        show_table(("figure", "count"), report.counted.items())
        for violation in report.violations:
            say(f"{violation.rule}: {', '.join(violation.ids)}: {violation.detail}")
        say("The books balance." if report.balanced else "The books do NOT balance.")
    if not report.balanced:
        found = len(report.violations)
        what = "disagreement" if found == 1 else "disagreements"
        raise CommandFailed(f"{found} {what}; the lines above name them.")


def _show(outcome: Outcome, shop: Shop, *, as_json: bool) -> None:
    from rich.console import Console

    from month6_capstone.demo import print_report

    if as_json:
        emit_json(outcome.report.document())
        return
    # A file has no width; the report is made for 80 columns and looks better with some more.
    console = Console(width=None if sys.stdout.isatty() else 100)
    print_report(console, outcome.report)
    for sentence in shop.without:
        note(f"without: {sentence}")
    note(f"report: {outcome.folder / 'report.json'}")


def _serve(shop: Shop, *, table: bool) -> None:
    """Keep the shop open until Ctrl-C. table: the links go to stdout, else nothing does."""
    from month6_capstone.topology import DEMO_EMAIL, DEMO_PASSWORD

    rows = [*shop.links, ("sign in as", f"{DEMO_EMAIL} / {DEMO_PASSWORD}")]
    if table:
        show_table(("open", "at"), rows)
    else:
        for label, where in rows:
            note(f"{label}: {where}")
    note("Try it: the curl lines in month6_capstone/README.md; ./lab verify in a second terminal.")
    note("The shop stays open; Ctrl-C closes it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        note("closing the shop: some seconds …")


def _end_like_ctrl_c() -> None:
    """A closed terminal or a plain `kill` stops the servers in order, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def _tidy_if_interrupted(folder: Path) -> Generator[None]:
    """A run that somebody stopped is no evidence of anything: its logs stay, its data go."""
    try:
        yield
    except KeyboardInterrupt:
        note("stopped; removing what this run had made …")
        discard(folder, keep=_KEPT)
        raise


def open_shop(root: Path) -> Path:
    """The folder of the shop that runs: the stack's, or the open demo's. CommandFailed if none."""
    from scalelab.lab.supervisor.control import is_running
    from scalelab.lab.supervisor.state import StackPaths

    stack = StackPaths(root, "month6")
    if is_running(stack):
        return stack.folder
    described = [run for run in open_runs(root) if (run / "shop.json").is_file()]
    if described:
        return described[0]
    raise CommandFailed("No shop is running. Try: ./lab up month6, or ./lab demo.", Exit.USAGE)


def _why_not(folder: Path) -> str:
    report = folder / "report.json"
    if report.is_file():
        return (
            f"The run of {folder} has ended, and its servers with it; its verdict is in {report}."
        )
    return f"No shop has run in {folder}. Try: ./lab up month6, then ./lab verify."


def _process_age_s() -> float:
    """Seconds since this process began: what a person waited before the clock was read."""
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())
