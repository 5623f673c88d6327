"""When a client is asked, and when it is given up."""

from __future__ import annotations

import pytest

from month3_messaging.status import Pace
from month3_messaging.status.liveness import Signs, Verdict, judge

PACE = Pace(heartbeat_s=10.0, silence_s=30.0, stall_s=20.0)


@pytest.mark.parametrize(
    ("signs", "verdict"),
    [
        (Signs(heard_s=91.0, asked_s=0.0, expires_s=200.0), Verdict.FINE),
        (Signs(heard_s=90.0, asked_s=0.0, expires_s=200.0), Verdict.ASK),
        (Signs(heard_s=80.0, asked_s=91.0, expires_s=200.0), Verdict.FINE),
        (Signs(heard_s=70.0, asked_s=99.0, expires_s=200.0), Verdict.SILENT),
        (Signs(heard_s=99.0, asked_s=0.0, expires_s=200.0, stalled_s=81.0), Verdict.FINE),
        (Signs(heard_s=99.0, asked_s=0.0, expires_s=200.0, stalled_s=80.0), Verdict.TOO_SLOW),
        (Signs(heard_s=99.0, asked_s=0.0, expires_s=100.0), Verdict.TOKEN_EXPIRED),
    ],
)
def test_a_client_is_judged_by_its_signs(signs: Signs, verdict: Verdict) -> None:
    """At 100 s on its clock; a ping is no sign of life, an answer is."""
    assert judge(signs, PACE, 100.0) is verdict
