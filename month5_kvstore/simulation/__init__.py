"""Whole clusters in one process under virtual time, a bad network and a forgetful disk."""

from month5_kvstore.simulation.drawing import Family, draw
from month5_kvstore.simulation.history import Call, Judge, apply_call, made_value, needed_value
from month5_kvstore.simulation.plan import Act, ActKind, Fault, FaultKind, Plan, PlannedCall
from month5_kvstore.simulation.script import Told, play
from month5_kvstore.simulation.world import Outcome, simulate

__all__ = [
    "Act",
    "ActKind",
    "Call",
    "Family",
    "Fault",
    "FaultKind",
    "Judge",
    "Outcome",
    "Plan",
    "PlannedCall",
    "Told",
    "apply_call",
    "draw",
    "made_value",
    "needed_value",
    "play",
    "simulate",
]
