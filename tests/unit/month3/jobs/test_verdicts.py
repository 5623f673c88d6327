"""What becomes of a failed job, and settings that would hand a waiting job to two workers."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from month3_messaging.jobs import Again, AttemptPolicy, Park, exhausted, judge
from month3_messaging.jobs.broker import BrokerSettings
from scalelab.errors import CorruptData, InvalidInput, OutcomeUnknown, Unavailable
from scalelab.resilience.backoff import Backoff

POLICY = AttemptPolicy(4, Backoff(first_s=1.0, factor=2.0, cap_s=3.0))


def test_a_dependency_that_is_away_is_tried_again_later_and_later() -> None:
    """Full jitter below a ceiling that doubles up to its cap."""
    waits = [judge(Unavailable("away"), attempt, POLICY, 1.0) for attempt in (1, 2, 3)]
    assert waits == [Again(1.0), Again(2.0), Again(3.0)]
    assert judge(OutcomeUnknown("silence"), 3, POLICY, 0.5) == Again(1.5)


def test_the_last_attempt_is_parked_whatever_the_cause() -> None:
    """With the cause's code."""
    assert judge(Unavailable("away", code="mail_unavailable"), 4, POLICY, 1.0) == Park(
        "mail_unavailable"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CorruptData("no", code="invoice_content"), "invoice_content"),
        (InvalidInput("no", code="mail_refused"), "mail_refused"),
        (ZeroDivisionError(), "unexpected"),
    ],
    ids=["content", "refused", "a mistake of ours"],
)
def test_what_no_retry_mends_is_parked_at_once(error: Exception, code: str) -> None:
    """At its first attempt."""
    assert judge(error, 1, POLICY, 1.0) == Park(code)


def test_a_job_that_kills_its_workers_runs_out_of_attempts() -> None:
    """They were counted before they began."""
    assert [exhausted(attempt, POLICY) for attempt in (4, 5)] == [False, True]


def test_a_visibility_time_out_below_a_jobs_longest_wait_is_refused() -> None:
    """A waiting job would be handed to a second worker."""
    with pytest.raises(ValidationError, match="visibility_timeout_s"):
        BrokerSettings(
            url="redis://x", longest_wait_s=60.0, job_limit_s=30.0, visibility_timeout_s=90.0
        )


def test_the_rooms_door_loads_no_driver() -> None:
    """Who asks what an invoice is, loads neither Celery nor a PDF or mail library."""
    code = (
        "import sys, month3_messaging.jobs;"
        "print(sorted({'celery', 'kombu', 'fpdf', 'aiosmtpd', 'psycopg'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.strip() == b"[]"
