"""The demo's report: one value, as tables for people and as one JSON document for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of a run. at_s, back_s: seconds after the start of the load; 0.0 if none."""

    kind: str
    target: str
    at_s: float
    back_s: float


@dataclass(frozen=True, slots=True)
class Books:
    """What `verify` found: rule → how many it checked, and every disagreement with its ids."""

    balanced: bool
    checked: dict[str, int]
    violations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Money:
    """Minor units. Balanced means captured - refunded = confirmed."""

    captured: int
    refunded: int
    confirmed: int
    currency: str


@dataclass(frozen=True, slots=True)
class Stock:
    """Units over all products. Balanced means initial = sold + reserved-for-open + left."""

    initial: int
    sold: int
    held: int
    left: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a run showed. Names follow the documented JSON form."""

    first_order_s: float
    orders: dict[str, int]
    books: Books
    money: Money
    stock: Stock
    duplicates: int
    stuck: int
    stale_own_reads: int
    latency_ms: dict[str, float]
    browse_ms: dict[str, float]
    orders_per_s: float
    cache_hit_ratio: float
    rows_per_shard: dict[str, int]
    reads_per_replica: dict[str, int]
    events_per_topic: dict[str, int]
    answers: dict[str, int]
    seed: int
    memory_mib: dict[str, Any]
    fault: Fault | None
    machine: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def green(self) -> bool:
        """The claim holds: books balance, nothing twice, nothing stuck, own reads are fresh."""
        return (
            self.books.balanced
            and self.duplicates == 0
            and self.stuck == 0
            and self.stale_own_reads == 0
        )

    def document(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self)


def _pairs(title: str, values: dict[str, Any], unit: str = "") -> Table:
    # The title is a column's header, not the table's: a table's own title breaks at its width.
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, style="cyan", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for name, value in values.items():
        table.add_row(str(name), f"{value}{unit}")
    return table


def _books(report: Report) -> Table:
    money, stock = report.money, report.stock
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("the books", "what the stores say", "holds"):
        table.add_column(column)
    rows = [
        (
            "captured - refunded = confirmed",
            f"{_euros(money.captured)} - {_euros(money.refunded)} = {_euros(money.confirmed)}",
            money.captured - money.refunded == money.confirmed,
        ),
        (
            "stock in = sold + held + left",
            f"{stock.initial:,} = {stock.sold:,} + {stock.held:,} + {stock.left:,}",
            stock.initial == stock.sold + stock.held + stock.left,
        ),
        ("effects that happened twice", str(report.duplicates), report.duplicates == 0),
        ("orders that never ended", str(report.stuck), report.stuck == 0),
        ("own writes not read", str(report.stale_own_reads), report.stale_own_reads == 0),
        (
            "rules that verify checked",
            f"{len(report.books.checked)} rules over {sum(report.books.checked.values()):,} facts",
            report.books.balanced,
        ),
    ]
    for rule, reads, holds in rows:
        table.add_row(rule, reads, "[green]yes[/]" if holds else "[bold red]NO[/]")
    return table


def _euros(minor: int) -> str:
    return f"{minor / 100:,.2f}"


def render(report: Report) -> Group:
    """The report as a person reads it, the verdict last. Made for 80 columns and more."""
    totals = {
        "orders/s": report.orders_per_s,
        "cache hits": f"{report.cache_hit_ratio:.0%}",
        "memory": f"{report.memory_mib['total']} MiB",
        "first order": f"{report.first_order_s} s",
    }
    grid = Table.grid(padding=(0, 4, 1, 0))
    grid.add_row(
        _pairs("orders by state", report.orders),
        _pairs("checkout (202)", report.latency_ms, " ms"),
        _pairs("browsing", report.browse_ms, " ms"),
    )
    grid.add_row(
        _pairs("own reads by server", report.reads_per_replica),
        _pairs("events per topic", report.events_per_topic),
        _pairs("rows per shard", report.rows_per_shard),
    )
    parts: list[Any] = [grid, _pairs("the run", totals), "", _books(report)]
    if report.fault:
        fault = report.fault
        text = f"{fault.kind} {fault.target} at {fault.at_s:.0f} s; back after {fault.back_s:.1f} s"
        parts.insert(0, f"[yellow]fault[/]  {text}\n")
    verdict = (
        "[bold green]the books balance[/]"
        if report.green
        else "[bold red]the books do NOT balance[/]"
    )
    return Group(*parts, Panel.fit(verdict))


def print_report(console: Console, report: Report) -> None:
    """Print the report, and every disagreement with the ids that disagree."""
    console.print(render(report))
    for violation in report.books.violations[:20]:
        console.print(f"[red]{violation}[/]")
