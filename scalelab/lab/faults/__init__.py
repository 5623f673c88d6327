"""Faults put between real processes on purpose: here, distance and bad lines.

Like the rest of the workbench, no service imports this room.
"""

from scalelab.lab.faults.delay_proxy import DelayProxy
from scalelab.lab.faults.line import Line, LineState, Passage, pass_through

__all__ = ["DelayProxy", "Line", "LineState", "Passage", "pass_through"]
