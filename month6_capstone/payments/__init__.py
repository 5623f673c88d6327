"""Payments: a double-entry ledger, captures and refunds that happen once, and a provider.

The pure rules are in `ledger`, `payment` and `book`; `capture` and `refund` are the two use cases,
`service` is the process. `provider` is another company's process with a book of its own.
"""

__all__: list[str] = []
