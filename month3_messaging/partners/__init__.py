"""The services an order depends on, in small: prices, holds on stock, payments. One process.

Each is a saga participant (scalelab.saga.participant) that consumes order events and answers with
events of its own. A shop has a service for each; this month needs them to have something to
coordinate.
"""

from month3_messaging.partners.answers import DECLINED_CARD
from month3_messaging.partners.postgres import Line, seed
from month3_messaging.partners.service import PartnersSettings, create, migrate

__all__ = ["DECLINED_CARD", "Line", "PartnersSettings", "create", "migrate", "seed"]
