"""Truth: reads every store of the shop and says whether they tell the same story."""

from month6_capstone.truth.collect import collect
from month6_capstone.truth.reconcile import reconcile
from month6_capstone.truth.records import World
from month6_capstone.truth.rules import judge
from month6_capstone.truth.settings import TruthSettings, read_description

__all__ = ["TruthSettings", "World", "collect", "judge", "read_description", "reconcile"]
