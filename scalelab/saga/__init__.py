"""Sagas: long work over several services as a table, a pure machine, and a participant's stand."""

from scalelab.saga.definition import DEADLINE, Kind, Rule, SagaDefinition, Step
from scalelab.saga.machine import Effect, SagaState, advance, begin
from scalelab.saga.participant import Request, Stand, Verdict, Work, decide
from scalelab.saga.sequence import Action, sequence

__all__ = [
    "DEADLINE",
    "Action",
    "Effect",
    "Kind",
    "Request",
    "Rule",
    "SagaDefinition",
    "SagaState",
    "Stand",
    "Step",
    "Verdict",
    "Work",
    "advance",
    "begin",
    "decide",
    "sequence",
]
