"""The shop's commands: `./lab demo` and `./lab verify`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, Exit, emit_json, note, say, show_table
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    from month6_capstone.demo import DemoOptions, Hooks, Outcome
    from month6_capstone.stack import Shop
    from scalelab.lab.runtime import Progress

app = typer.Typer()

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command(rich_help_panel="Start here")
def demo(
    context: typer.Context,
    once: Annotated[bool, typer.Option(help="End after the report; private ports.")] = False,
    seed: Annotated[int, typer.Option(help="Decides shoppers, cards and baskets.")] = 1,
    seconds: Annotated[float, typer.Option(min=5, help="How long shoppers arrive.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.5, max=500, help="Orders a second.")] = 15.0,
    monolith: Annotated[bool, typer.Option(help="The same code in one process.")] = False,
    fault: Annotated[bool, typer.Option(help="Kill a worker halfway.")] = True,
    host: Annotated[str, typer.Option(help="Where the front door listens.")] = "127.0.0.1",
    as_json: JsonFlag = False,
) -> None:
    """Start the shop, send shoppers, kill a worker, and prove that the books balance.

    Everything runs on this machine, on real servers, in .lab/runs. Exit code 1 if the books do not
    balance; the run's folder then keeps all logs and the ids that disagree.

    Examples:  ./lab demo   ·   ./lab demo --once --seed 7 --json   ·   ./lab demo --monolith
    """
    from month6_capstone.demo import DemoOptions, begin, sell_and_judge
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
    folder = _new_run(root_of(context), seed)
    with _Watch(options) as hooks:
        runtime, shop = begin(folder, options, hooks, private=once)
        with runtime:
            outcome = sell_and_judge(shop, options, hooks, since_s=since_s, clock=clock)
            hooks.phase("done")
            data = runtime.data
            _show(outcome, shop, as_json=as_json)
            if not once and outcome.report.green:
                _serve(shop)
    conclude(outcome, data)


def conclude(outcome: Outcome, data: Path) -> None:
    """End a run whose servers have stopped: a green one gives back the disk of its `data`.

    Raises CommandFailed, with the folder that keeps everything, if the run was red.
    """
    from month6_capstone.demo import give_back_disk

    if not outcome.report.green:
        raise CommandFailed(
            f"The books do not balance; logs, the client log and the report are in "
            f"{outcome.folder}."
        )
    give_back_disk(outcome.folder, data)


@app.command(rich_help_panel="Stacks")
def verify(
    context: typer.Context,
    run: Annotated[Path | None, typer.Option(help="A run's folder; default: what runs.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Reconcile every store of a running shop: clients, orders, ledger, provider, stock, events.

    Run it when the shop is quiet: an order that is still on its way is reported. Exit code 1 if
    anything disagrees.

    Examples:  ./lab up month6 && ./lab verify   ·   ./lab verify --json
    """
    from month6_capstone.stack import description_path
    from month6_capstone.truth import read_description, reconcile

    root = root_of(context)
    folder = run or _running_shop(root)
    description = description_path(folder)
    if not description.is_file():
        raise CommandFailed(
            f"No shop has run in {folder}. Try: ./lab up month6, then ./lab verify.", Exit.USAGE
        )
    log = folder / "client.jsonl"
    report = reconcile(read_description(description, client_log=log if log.is_file() else None))
    if as_json:
        emit_json(report.as_json())
    else:
        show_table(("rule", "looked at"), report.checked.items(), title="verify")
        show_table(("figure", "count"), report.counted.items())
        for violation in report.violations:
            say(f"{violation.rule}: {', '.join(violation.ids)}: {violation.detail}")
        say("The books balance." if report.balanced else "The books do NOT balance.")
    if not report.balanced:
        raise CommandFailed(f"{len(report.violations)} disagreements; the lines above name them.")


class _Watch:
    """Shows a demo's progress on standard error; context manager that gives the hooks."""

    def __init__(self, options: DemoOptions) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._seconds = options.seconds
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("starting the servers", total=None)

    def __enter__(self) -> Hooks:
        from month6_capstone.demo import Hooks

        self._progress.start()
        return Hooks(phase=self._phase, server=self._server, load=self._load)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _phase(self, sentence: str) -> None:
        self._console.print(f"· {sentence}", highlight=False)
        self._progress.update(self._task, description=sentence, total=None, completed=0)
        if sentence == "done":
            self._progress.stop()

    def _server(self, progress: Progress) -> None:
        if progress.stage in {"ready", "failed", "died", "restarted"}:
            line = f"· {progress.name} {progress.stage} ({progress.seconds:.1f} s)"
            self._console.print(f"{line} {progress.detail}".rstrip(), highlight=False)

    def _load(self, gone_s: float) -> None:
        self._progress.update(self._task, total=self._seconds, completed=gone_s)


def _show(outcome: Outcome, shop: Shop, *, as_json: bool) -> None:
    from rich.console import Console

    from month6_capstone.demo import print_report

    if as_json:
        emit_json(outcome.report.document())
        return
    print_report(Console(), outcome.report)
    for sentence in shop.without:
        note(f"without: {sentence}")
    note(f"report: {outcome.folder / 'report.json'}")


def _serve(shop: Shop) -> None:
    """Keep the shop open until Ctrl-C."""
    from month6_capstone.topology import DEMO_EMAIL, DEMO_PASSWORD

    show_table(("open", "at"), [*shop.links, ("sign in as", f"{DEMO_EMAIL} / {DEMO_PASSWORD}")])
    note("The shop stays open; Ctrl-C closes it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        note("closing the shop …")


def _new_run(root: Path, seed: int) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    runs = root / ".lab" / "runs"
    number = 0
    while True:
        folder = runs / (f"{stamp}-seed{seed}" + (f"-{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _running_shop(root: Path) -> Path:
    return root / ".lab" / "stacks" / "month6"


def _process_age_s() -> float:
    """Seconds since this process began: what a person waited before the clock was read."""
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())
