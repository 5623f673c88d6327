"""The shop's catalogue: month 1's catalogue with the shop's settings and tokens.

The process is `month6_capstone.catalog.service`.
"""

__all__: list[str] = []
