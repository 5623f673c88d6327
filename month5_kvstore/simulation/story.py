"""A run as a story: one line an event, messages as arrows between the lanes of the nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

_LANE = 4


@dataclass(slots=True)
class Story:
    """Collects what a run's observer hears. nodes: ids, one lane each, in order."""

    nodes: tuple[int, ...]
    lines: list[str] = field(default_factory=list[str])

    @property
    def head(self) -> str:
        """The line above all others."""
        return f"{'':>10}  " + "".join(f"{node:<{_LANE}}" for node in self.nodes)

    def hear(self, at_us: int, what: str, node: int, other: int, text: str) -> None:
        """An event; messages are shown where they arrive."""
        if what == "sends":
            return
        if what == "gets":
            lanes = self._arrow(other, node)
        else:
            lanes = self._mark(node)
            text = f"{what}: {text}"
        self.lines.append(f"{at_us / 1e6:>9.4f}s  {lanes}  {text}")

    def _mark(self, node: int) -> str:
        marks = ("*" if lane == node else "|" for lane in self.nodes)
        return "".join(f"{mark:<{_LANE}}" for mark in marks)

    def _arrow(self, sender: int, to: int) -> str:
        if sender not in self.nodes or to not in self.nodes:
            return self._mark(to)
        start, end = self.nodes.index(sender) * _LANE, self.nodes.index(to) * _LANE
        cells = list(self._mark(0))
        low, high = min(start, end), max(start, end)
        cells[low:high] = "-" * (high - low)
        cells[start] = "o"
        cells[end] = ">" if end > start else "<"
        return "".join(cells)
