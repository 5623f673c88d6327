"""An invoice as a PDF (fpdf2): one invoice, always the same bytes from the same library."""

from __future__ import annotations

from fpdf import FPDF

from month3_messaging.jobs.invoice import Invoice, money

_WIDTHS_MM = (90, 25, 35, 40)
_LINE_MM = 7


def render(invoice: Invoice) -> bytes:
    """The document. Characters outside Latin-1, which the built-in fonts lack, become `?`."""
    pdf = FPDF(format="A4")
    # Without this it carries the time of the rendering, and no two are alike.
    pdf.set_creation_date(invoice.issued_at)
    pdf.set_title(invoice.name)
    pdf.set_producer("scalelab")
    pdf.add_page()
    pdf.set_font("Helvetica", size=18)
    pdf.cell(0, 12, f"Invoice {invoice.name}", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=10)
    for text in (
        f"Order {invoice.order.order_id} of {invoice.order.placed_at:%Y-%m-%d}",
        f"Customer {invoice.order.user_id}",
        f"Issued {invoice.issued_at:%Y-%m-%d %H:%M:%S} UTC",
    ):
        pdf.cell(0, _LINE_MM, _plain(text), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(_LINE_MM)
    _row(pdf, ("Product", "Pieces", "Each", "Sum"))
    for line in invoice.order.lines:
        _row(
            pdf,
            (
                line.product_id,
                str(line.quantity),
                money(line.unit_minor, invoice.order.currency),
                money(line.sum_minor, invoice.order.currency),
            ),
        )
    _row(pdf, ("Total", "", "", money(invoice.order.total_minor, invoice.order.currency)))
    return bytes(pdf.output())


def _row(pdf: FPDF, cells: tuple[str, str, str, str]) -> None:
    for place, (text, width) in enumerate(zip(cells, _WIDTHS_MM, strict=True)):
        pdf.cell(width, _LINE_MM, _plain(text), align="R" if place else "L")
    pdf.ln(_LINE_MM)


def _plain(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
