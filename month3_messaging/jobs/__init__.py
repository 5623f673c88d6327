"""Background jobs on Celery: an invoice as a PDF, sent by mail, once an order was confirmed.

The drivers are doors of their own (`jobs.broker`, `jobs.worker`, `jobs.mail_sink`): nobody loads
Celery, fpdf2 or aiosmtpd by asking what an invoice is.
"""

from month3_messaging.jobs.invoice import (
    Invoice,
    InvoiceLine,
    Ordered,
    address_of,
    money,
    order_of,
)
from month3_messaging.jobs.verdicts import Again, AttemptPolicy, Park, exhausted, judge

__all__ = [
    "Again",
    "AttemptPolicy",
    "Invoice",
    "InvoiceLine",
    "Ordered",
    "Park",
    "address_of",
    "exhausted",
    "judge",
    "money",
    "order_of",
]
