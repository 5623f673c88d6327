"""The judge of simulated histories: the laboratory's checker, told what a register is."""

from __future__ import annotations

from collections.abc import Sequence

from month5_kvstore.simulation import Call, apply_call, made_value, needed_value
from scalelab.lab.verify import linearizable


def judge(calls: Sequence[Call]) -> str | None:
    """A complaint if no order of these calls explains their answers; else None."""
    check = linearizable(
        "linearizable",
        calls,
        initial=0,
        apply=apply_call,
        key=lambda call: call.key,
        needs=needed_value,
        makes=made_value,
        name=_name,
    )
    return check.violations[0].detail if check.violations else None


def _name(call: Call) -> str:
    arguments = ", ".join(map(str, call.arguments))
    return f"#{call.number} {call.verb}({arguments}) = {call.answer}"
