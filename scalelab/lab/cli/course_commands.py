"""`experiment` and `bench`: ask a question of real servers, compare with a named peer."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scalelab.lab.cli.outcome import (
    CommandFailed,
    Exit,
    emit_json,
    note,
    say,
    sentence_of,
    show_table,
)
from scalelab.lab.cli.place import root_of
from scalelab.lab.cli.runs import discard, held, new_run

if TYPE_CHECKING:
    from collections.abc import Generator

    from scalelab.lab.course.bench import AnyFigure
    from scalelab.lab.course.discovery import FoundBench, FoundExperiment
    from scalelab.lab.runtime import Runtime

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
SeedOption = Annotated[int, typer.Option(help="Of every random choice; same seed, same choices.")]


def experiment(
    context: typer.Context,
    slugs: Annotated[
        list[str] | None, typer.Argument(metavar="[SLUG]...", help="Which; the list if absent.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Under 30 s of measuring.")] = False,
    as_json: JsonFlag = False,
    seed: SeedOption = 1,
) -> None:
    """List the experiments, or run some on private servers: a table, a plot, claims checked.

    Results go to .lab/experiments/SLUG. Exit code 1 if a claim does not hold.

    Examples:  ./lab experiment   ·   ./lab experiment cache-stampede --quick
    """
    from scalelab.lab.course.discovery import find_experiments

    root = root_of(context)
    found = find_experiments(root, on_error=_tell_broken)
    if not slugs:
        _list_experiments(found, as_json=as_json)
        return
    by_slug = {item.experiment.slug: item for item in found}
    unknown = [slug for slug in slugs if slug not in by_slug]
    if unknown:
        raise CommandFailed(
            f"There is no experiment {', '.join(unknown)}; ./lab experiment lists them.", Exit.USAGE
        )
    documents: list[dict[str, Any]] = []
    with _private_runtime(root, "experiment") as runtime:
        for slug in slugs:
            document = _run_experiment(root, by_slug[slug], runtime, quick=quick, seed=seed)
            documents.append(document)
            if not as_json:
                _show_result(document)
    if as_json:
        emit_json(documents[0] if len(documents) == 1 else {"experiments": documents})
    if not all(claim["holds"] for document in documents for claim in document["shape"]):
        raise typer.Exit(Exit.FAILED)


def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Which, or a month for all of its; the list if absent.")
    ] = None,
    as_json: JsonFlag = False,
    seed: SeedOption = 1,
) -> None:
    """List the benches, or run some: ours and a named peer in turns, ratios with their intervals.

    Exit code 1 if a gate does not hold. Results go to .lab/bench/NAME.json.

    Examples:  ./lab bench   ·   ./lab bench gateway --json   ·   ./lab bench month1
    """
    from scalelab.lab.course.discovery import choose_benches, find_benches

    root = root_of(context)
    if name is None:
        benches = find_benches(root)
        if as_json:
            rows = [{"name": b.name, "month": b.month, "summary": b.summary} for b in benches]
            emit_json({"benches": rows})
        else:
            _list_benches(benches)
        return
    chosen = choose_benches(root, name)
    figures: list[AnyFigure] = []
    document: dict[str, Any] = {}
    for found in chosen:
        if len(chosen) > 1:
            note(f"{found.name}: {found.summary}")
        figures += _run_bench(root, found, seed=seed)
        # Saved after each, so that a bench that breaks takes nobody's figures with it.
        document = _bench_document(root, figures, seed=seed)
        _save(root / ".lab" / "bench" / f"{name.replace('_', '-')}.json", document)
    if as_json:
        emit_json(document)
    else:
        _show_figures(figures)
    if not all(figure.holds for figure in figures):
        raise typer.Exit(Exit.FAILED)


def _run_bench(root: Path, found: FoundBench, *, seed: int) -> list[AnyFigure]:
    import random

    from scalelab.lab.course.bench import Options
    from scalelab.lab.course.discovery import load_bench

    run = load_bench(root, found)
    with _private_runtime(root, "bench") as runtime, contextlib.redirect_stdout(sys.stderr):
        return run(Options(runtime=runtime, generator=random.Random(seed), note=note))


def _bench_document(root: Path, figures: list[AnyFigure], *, seed: int) -> dict[str, Any]:
    from scalelab.lab.course.machine import describe

    return {
        "machine": describe(root) | {"seed": seed},
        "figures": [figure.document() for figure in figures],
    }


def _list_benches(benches: list[FoundBench]) -> None:
    if not benches:
        note("There is no bench yet.")
        return
    rows = [(bench.month or "–", bench.name, bench.summary) for bench in benches]
    show_table(["month", "bench", "compares"], rows)
    note("Run one (some minutes): ./lab bench NAME, or all of a month: ./lab bench month1")


@contextlib.contextmanager
def _private_runtime(root: Path, purpose: str) -> Generator[Runtime]:
    """Servers of this command alone, in a folder of their own, on free ports.

    Afterwards the folder goes; of a run that failed its logs stay.
    """
    from scalelab.lab.runtime import Runtime

    folder = new_run(root, f"{purpose}-{secrets.token_hex(4)}")
    keep = ("logs",)
    try:
        with held(folder), Runtime(folder, private=True) as runtime:
            yield runtime
        keep = ()
    finally:
        discard(folder, keep=keep)


def _run_experiment(
    root: Path, found: FoundExperiment, runtime: Runtime, *, quick: bool, seed: int
) -> dict[str, Any]:
    from scalelab.lab.course.experiment import Lab, document
    from scalelab.lab.course.plot import draw

    chosen = found.experiment
    folder = root / ".lab" / "experiments" / chosen.slug
    folder.mkdir(parents=True, exist_ok=True)
    note(f"{chosen.slug}: {chosen.question}")
    lab = Lab(quick=quick, runtime=runtime, folder=folder, seed=seed, note=note)
    # Standard output carries the answer alone, whatever a library may print while it works.
    with contextlib.redirect_stdout(sys.stderr):
        result = chosen.run(lab)
    plot = folder / "plot.svg"
    plot.write_text(draw(chosen.question, result.plot, result.arms), encoding="utf-8")
    answer = document(chosen, result, plot=str(plot), seed=seed)
    _save(folder / "result.json", answer)
    return answer


def _list_experiments(found: list[FoundExperiment], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "slug": item.experiment.slug,
                "month": item.month.name,
                "question": item.experiment.question,
                "topics": list(item.experiment.topics),
                "needs": list(item.experiment.needs),
            }
            for item in found
        ]
        emit_json({"experiments": rows})
        return
    if not found:
        note("There is no experiment yet.")
        return
    show_table(
        ["month", "slug", "question", "needs"],
        [
            (
                item.month.name,
                item.experiment.slug,
                item.experiment.question,
                ", ".join(item.experiment.needs),
            )
            for item in found
        ],
    )
    note("Run one: ./lab experiment SLUG --quick")


def _show_result(document: dict[str, Any]) -> None:
    say(f"\n{document['question']}")
    say(f"varied: {document['varied']} · fixed: {document['fixed']}")
    names = list(dict.fromkeys(name for arm in document["arms"] for name in arm["figures"]))
    rows = [
        (arm["name"], arm["role"], *(_cell(arm["figures"].get(name)) for name in names))
        for arm in document["arms"]
    ]
    show_table(["arm", "role", *names], rows)
    for claim in document["shape"]:
        mark = "holds" if claim["holds"] else "DOES NOT HOLD"
        say(f"  {mark}: {claim['claim']} ({claim['measured']})")
    for line in document["notes"]:
        say(f"  note: {line}")
    say(f"  plot: {document['plot']}")


def _show_figures(figures: list[AnyFigure]) -> None:
    rows: list[tuple[str, ...]] = []
    for figure in figures:
        line = figure.document()
        verdict = "holds" if figure.holds else "DOES NOT HOLD"
        sign = "≥" if figure.sense == "at_least" else "≤"
        if "ratio" in line:
            measured = f"{line['ratio']:.3g} ({line['ratio_low']:.3g} … {line['ratio_high']:.3g})"
            rows.append(
                (
                    figure.subject,
                    line["peer"],
                    figure.unit,
                    measured,
                    f"{sign} {line['gate']:g}",
                    verdict,
                )
            )
        else:
            limit = "–" if line["limit"] is None else f"{sign} {line['limit']:g}"
            verdict = "shown" if line["limit"] is None else verdict
            rows.append((figure.subject, "–", figure.unit, f"{line['value']:.4g}", limit, verdict))
    show_table(["subject", "peer", "unit", "ratio (95 %) or value", "gate", "verdict"], rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _save(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tell_broken(path: Path, error: Exception) -> None:
    note(f"lab: {path} cannot be loaded: {sentence_of(error)}")
