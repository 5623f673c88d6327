"""Orders in the shop: month 3's order code on month 2's shards. Composition only.

Two processes: `service` answers customers, `worker` carries orders to their end.
"""

__all__: list[str] = []
