"""`python -m month3_messaging.jobs intake|worker|mail|prepare`: one process, or the tables.

Settings come from JOBS_…, JOBS_BROKER_…, JOBS_WORKER_… and MAIL_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar, cast

from fastapi import FastAPI

from month3_messaging.jobs import mail_sink, service
from month3_messaging.jobs.broker import BrokerSettings
from month3_messaging.jobs.worker import WorkerSettings, run_worker
from scalelab.telemetry import Telemetry
from scalelab.web.process import run_service

S = TypeVar("S")


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    match arguments:
        case ["intake"]:
            broker = _read(BrokerSettings)

            def create(settings: service.IntakeSettings, telemetry: Telemetry) -> FastAPI:
                return service.create(settings, broker, telemetry)

            run_service("jobs", _read(service.IntakeSettings), create)
        case ["worker"]:
            run_worker(_read(WorkerSettings), _read(BrokerSettings))
        case ["mail"]:
            run_service("mail", _read(mail_sink.MailSinkSettings), mail_sink.create)
        case ["prepare"]:
            service.migrate(_read(service.IntakeSettings).database_dsn)
        case _:
            sys.stderr.write("usage: python -m month3_messaging.jobs intake|worker|mail|prepare\n")
            return 2
    return 0


def _read(settings: type[S]) -> S:
    return cast("Callable[[], S]", settings)()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
