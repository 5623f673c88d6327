"""Inventory: holds with a time limit, reservations without one, and never a piece too many.

The pure rules are in `stock`, the SQL in `postgres`; `holds` serves callers, `orders` serves
events, `service` is the process.
"""

__all__: list[str] = []
