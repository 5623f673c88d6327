"""The container bed: container files run for real, in a private Docker daemon, with stand-ins.

Tests marked `bed` use it; nothing on the main path needs it. Linux and root only.
"""

from scalelab.lab.containers import leftovers
from scalelab.lab.containers.bed import ContainerBed, missing_parts
from scalelab.lab.containers.daemon import Daemon, why_not
from scalelab.lab.containers.project import Project

__all__ = ["ContainerBed", "Daemon", "Project", "leftovers", "missing_parts", "why_not"]
