"""Mail over SMTP (smtplib). Blocking; every wait has a time-out.

A message's id is made of the order's: who is sent a mail twice can see that it is the same one.
SMTP has no way to ask whether a mail was taken. When the server is silent after the whole mail was
handed over, nobody here can know (OutcomeUnknown): sending again may double it, and not sending
may lose it. This room sends again.
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage

from month3_messaging.jobs.invoice import Invoice, money
from scalelab.errors import InvalidInput, OutcomeUnknown, ScalelabError, Unavailable

_TEMPORARY = range(400, 500)


@dataclass(frozen=True, slots=True)
class PostSettings:
    """Where mail is handed over. sender: its address. domain: of the customers' addresses, and of
    message ids. timeout_s: of the connection and of each answer."""

    host: str
    port: int
    sender: str = "shop@shop.example"
    domain: str = "shop.example"
    timeout_s: float = 10.0


def mail_of(invoice: Invoice, pdf: bytes, recipient: str, settings: PostSettings) -> EmailMessage:
    """The mail with the invoice in it."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = recipient
    mail["Subject"] = f"Your invoice {invoice.name}"
    mail["Date"] = invoice.issued_at
    mail["Message-ID"] = f"<invoice.{invoice.order.order_id}@{settings.domain}>"
    total = money(invoice.order.total_minor, invoice.order.currency)
    mail.set_content(f"Thank you for your order {invoice.order.order_id}: {total}.\n")
    mail.add_attachment(pdf, maintype="application", subtype="pdf", filename=f"{invoice.name}.pdf")
    return mail


def send(mail: EmailMessage, settings: PostSettings) -> None:
    """Hand the mail over; returns when the server has taken it.

    Raises Unavailable (it was not taken), InvalidInput, code `mail_refused` (it never will be), or
    OutcomeUnknown.
    """
    with _mapped(sent=False):
        server = smtplib.SMTP(
            settings.host,
            settings.port,
            local_hostname=settings.domain,
            timeout=settings.timeout_s,
        )
    try:
        with _mapped(sent=True):
            server.send_message(mail)
    finally:
        server.close()


@contextmanager
def _mapped(*, sent: bool) -> Generator[None]:
    """smtplib's errors in the words of the error tree. sent: whether the mail was on its way."""
    try:
        yield
    except smtplib.SMTPResponseException as error:
        raise _refusal(error.smtp_code, str(error)) from error
    except smtplib.SMTPRecipientsRefused as error:
        [(code, said), *_] = error.recipients.values()
        raise _refusal(code, said.decode(errors="replace")) from error
    except (smtplib.SMTPException, socket.gaierror, OSError) as error:
        if sent:
            raise OutcomeUnknown(f"the mail server broke off: {error}") from error
        raise Unavailable(f"no mail server: {error}", code="mail_unavailable") from error


def _refusal(code: int, said: str) -> ScalelabError:
    if code in _TEMPORARY:
        return Unavailable(f"the mail server says later: {said}", code="mail_deferred")
    return InvalidInput(f"the mail server refused: {said}", code="mail_refused")
