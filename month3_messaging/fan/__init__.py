"""Fan-out and fan-in: one question to many with one deadline, one event to many groups."""

from month3_messaging.fan.gathered import Gathered, Missing, Why, chance_all
from month3_messaging.fan.hedging import HedgePolicy, Hedging
from month3_messaging.fan.scatter import Ask, Part, ScatterSettings, scatter
from month3_messaging.fan.stock_fan import Availability, Levels, StockFan, Warehouse
from month3_messaging.fan.topic_fan import Follower, Handle, follow

__all__ = [
    "Ask",
    "Availability",
    "Follower",
    "Gathered",
    "Handle",
    "HedgePolicy",
    "Hedging",
    "Levels",
    "Missing",
    "Part",
    "ScatterSettings",
    "StockFan",
    "Warehouse",
    "Why",
    "chance_all",
    "follow",
    "scatter",
]
