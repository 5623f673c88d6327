"""Clients of PostgreSQL, Redis, Kafka and HTTP peers: deadlines and one error tree.

Each client is a module of its own, because a process should load only those it uses:
`from scalelab.clients.postgres import Database`, and so on for `redis`, `kafka`, `http` and
`migrations`.
"""

__all__: list[str] = []
