"""One page from the results of experiments and benches: values in, HTML text out.

The page needs no network and no script: plots are set into it as they were drawn, and everything
that came from a result file is escaped. What was never run is listed as such, so that a page that
looks complete is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One experiment. result: its JSON document, None if it was never run here. plot: SVG text.

    age: when it was run, in words a person reads (`2026-11-26 21:40`); "" if never.
    """

    month: str
    slug: str
    question: str
    result: Mapping[str, Any] | None
    plot: str
    age: str


def render(findings: Sequence[Finding], benches: Sequence[Mapping[str, Any]], *, style: str) -> str:
    """The whole document. benches: the JSON documents of `./lab bench`; style: the CSS text."""
    ran = [one for one in findings if one.result is not None]
    held = sum(_holds(one) for one in ran)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>scalelab: what was measured</title><style>{style}</style></head><body>",
        "<h1>What was measured</h1>",
        f"<p>{len(ran)} of {len(findings)} experiments were run on this machine; "
        f"the shape of {held} held.</p>",
        *_contents(findings),
        *(_section(one) for one in ran),
        *_missing([one for one in findings if one.result is None]),
    ]
    if benches:
        parts += ["<h2>Beside their peers</h2>", *(_bench(document) for document in benches)]
    return "\n".join([*parts, "</body></html>", ""])


def _contents(findings: Sequence[Finding]) -> list[str]:
    rows = [
        f'<li><a href="#{escape(one.slug)}">{escape(one.slug)}</a> {_verdict(one)}</li>'
        for one in findings
        if one.result is not None
    ]
    return ["<ul class=contents>", *rows, "</ul>"] if rows else []


def _section(one: Finding) -> str:
    result = one.result or {}
    claims = [
        f"<li class={'holds' if claim['holds'] else 'fails'}>{escape(str(claim['claim']))} "
        f"<span>{escape(str(claim['measured']))}</span></li>"
        for claim in result.get("shape", [])
    ]
    return "\n".join(
        [
            f'<section id="{escape(one.slug)}"><h2>{escape(one.slug)} {_verdict(one)}</h2>',
            f"<p class=question>{escape(one.question)}</p>",
            f"<p class=facts>{escape(one.month)} · run {escape(one.age)} · "
            f"seed {escape(str(result.get('seed', '?')))}</p>",
            f"<p>Varied: {escape(str(result.get('varied', '')))}. "
            f"Fixed: {escape(str(result.get('fixed', '')))}.</p>",
            f"<figure>{one.plot}</figure>" if one.plot else "",
            _arms(result.get("arms", [])),
            "<ul class=claims>",
            *claims,
            "</ul>",
            *(f"<p class=note>{escape(str(line))}</p>" for line in result.get("notes", [])),
            "</section>",
        ]
    )


def _arms(arms: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for arm in arms for name in arm["figures"]))
    head = ["arm", "role", *names]
    rows = [
        [arm["name"], arm["role"], *(_cell(arm["figures"].get(name)) for name in names)]
        for arm in arms
    ]
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table of escaped cells."""
    lines = ["<div class=wide><table><thead><tr>"]
    lines += [f"<th>{escape(name)}</th>" for name in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def _missing(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    rows = [
        f"<li><code>./lab experiment {escape(one.slug)} --quick</code> {escape(one.question)}</li>"
        for one in findings
    ]
    return ["<h2>Not run here yet</h2><ul>", *rows, "</ul>"]


def _bench(document: Mapping[str, Any]) -> str:
    machine = document.get("machine", {})
    facts = " · ".join(f"{key} {value}" for key, value in machine.items())
    rows = [_bench_row(figure) for figure in document.get("figures", [])]
    head = ["bench", "subject", "peer", "unit", "measured", "gate", "verdict"]
    return f"<p class=facts>{escape(facts)}</p>{table(head, rows)}"


def _bench_row(figure: Mapping[str, Any]) -> list[object]:
    sign = "≥" if figure["sense"] == "at_least" else "≤"
    if "ratio" in figure:
        measured = "{ratio:.3g} ({ratio_low:.3g} … {ratio_high:.3g})".format_map(figure)
        gate = figure["gate"]
    else:
        measured, gate = _cell(figure["value"]), figure["limit"]
    verdict = {True: "holds", False: "does not hold", None: "shown"}[figure["holds"]]
    limit = "–" if gate is None else f"{sign} {gate:g}"
    peer = figure.get("peer", "–")
    return [figure["bench"], figure["subject"], peer, figure["unit"], measured, limit, verdict]


def _holds(one: Finding) -> bool:
    return one.result is not None and all(claim["holds"] for claim in one.result.get("shape", []))


def _verdict(one: Finding) -> str:
    return "<b class=holds>holds</b>" if _holds(one) else "<b class=fails>does not hold</b>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
