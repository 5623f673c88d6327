"""The order service of this month as processes: its door, and the work behind it."""

from month3_messaging.ordering.door import DoorSettings, create_door, migrate
from month3_messaging.ordering.worker import WorkerSettings, create_worker

__all__ = ["DoorSettings", "WorkerSettings", "create_door", "create_worker", "migrate"]
